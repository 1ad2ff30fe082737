BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE artifacts (
	id INTEGER NOT NULL, 
	job_id TEXT NOT NULL, 
	stage_id TEXT NOT NULL, 
	path TEXT NOT NULL, 
	role TEXT NOT NULL, 
	media_type TEXT NOT NULL, 
	bytes INTEGER NOT NULL, 
	sha256 TEXT NOT NULL, 
	facts JSON NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(job_id) REFERENCES jobs (id)
);
INSERT INTO "artifacts" VALUES(1,'c50ec2224328441198e6a8f7614ca03c','remove_background','published.matte.png','matte','image/png',27,'41f4268842e38d093e1f4a1efd5fc8ac5cecb1d61c921e063ccd0c0294691e56','{"width": 64, "height": 64}');
INSERT INTO "artifacts" VALUES(2,'5ee59a84cdf14f12b416ed2762706278','remove_background','kept_done.matte.png','matte','image/png',27,'e8c6bbb6721477c8877d6a3af461ce215c3c8342c1864c2dfb94830a21ffb83e','{"width": 64, "height": 64}');
INSERT INTO "artifacts" VALUES(3,'0aec81a6e24e4b8e80345a9133f4977e','remove_background','a.matte.png','matte','image/png',19,'9a6b5c4afa2ff7ea54c4410f1524b088ca4e75b37db2ea1a7aeb2a7c68fe16fc','{"width": 64, "height": 64}');
INSERT INTO "artifacts" VALUES(4,'4a47e0dd8f5949f4a0514bb7acfcb458','remove_background','computed.matte.png','matte','image/png',26,'4019c24345cca0feca0f647413ad4eca6b498943eeba906f83840d249cd34774','{"width": 64, "height": 64}');
INSERT INTO "artifacts" VALUES(5,'d4f7ff7fb77744beb1f90ea77da09fe7','remove_background','planned.matte.png','matte','image/png',25,'b593d677ea7f35684d9d4f71a2af770bd73765000e4eeabf437ef95cc648eb9d','{"width": 64, "height": 64}');
INSERT INTO "artifacts" VALUES(6,'b00147d3af7f40ecbe23530edd563018','remove_background','publish_held.matte.png','matte','image/png',30,'af617797b431edd3e6a56615759e98b878935dc4388d5129d54fc53c76ba4545','{"width": 64, "height": 64}');
CREATE TABLE batch_rows (
	batch_id TEXT NOT NULL, 
	number INTEGER NOT NULL, 
	image TEXT NOT NULL, 
	job_id TEXT, 
	status TEXT, 
	code TEXT, 
	field TEXT, 
	detail TEXT, 
	PRIMARY KEY (batch_id, number)
);
INSERT INTO "batch_rows" VALUES('29d1e292e2f74d75a6c173ad73ec4ac2',2,'shots/a.png','0aec81a6e24e4b8e80345a9133f4977e',NULL,NULL,NULL,NULL);
INSERT INTO "batch_rows" VALUES('29d1e292e2f74d75a6c173ad73ec4ac2',3,'shots/b.png','07c9d43187f74e049b1caa117bfde2c7',NULL,NULL,NULL,NULL);
INSERT INTO "batch_rows" VALUES('29d1e292e2f74d75a6c173ad73ec4ac2',4,'not_there.png',NULL,'wrong','image_missing','image','row 4: image: there is no ''not_there.png''');
INSERT INTO "batch_rows" VALUES('267e8e2491f94575a08ed6d1f47d2390',1,'matrix.png','be8b51ef39d048cca6075271921b8ab2',NULL,NULL,NULL,NULL);
INSERT INTO "batch_rows" VALUES('267e8e2491f94575a08ed6d1f47d2390',2,'matrix.png','38696455ae894121935bf9142f98bd0c',NULL,NULL,NULL,NULL);
CREATE TABLE batches (
	id TEXT NOT NULL, 
	inbox TEXT NOT NULL, 
	folder TEXT NOT NULL, 
	name TEXT NOT NULL, 
	stem TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	state TEXT NOT NULL, 
	originals TEXT NOT NULL, 
	max_failures INTEGER, 
	paused TEXT, 
	rows INTEGER NOT NULL, 
	wrong INTEGER NOT NULL, 
	created_at TEXT NOT NULL, 
	finished_at TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "batches" VALUES('29d1e292e2f74d75a6c173ad73ec4ac2','in','shots','list.csv','list','table','claimed','archive',NULL,NULL,3,1,'2026-11-29T02:56:14.752990Z',NULL);
INSERT INTO "batches" VALUES('267e8e2491f94575a08ed6d1f47d2390','in','','matrix.png','matrix','matrix','claimed','archive',NULL,NULL,2,0,'2026-11-29T02:56:35.149672Z',NULL);
CREATE TABLE drops (
	id TEXT NOT NULL, 
	inbox TEXT NOT NULL, 
	state TEXT NOT NULL, 
	originals TEXT NOT NULL, 
	folder BLOB NOT NULL, 
	claim BLOB NOT NULL, 
	image BLOB, 
	sidecar BLOB, 
	stat JSON NOT NULL, 
	error JSON, 
	sha256 TEXT, 
	bytes INTEGER, 
	width INTEGER, 
	height INTEGER, 
	sidecar_text TEXT, 
	created_at TEXT NOT NULL, batch TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "drops" VALUES('d8f45731756a44b8b895547bda8b3af7','in','gone','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F6438663435373331373536613434623862383935353437626461386233616637',X'7075626C69736865642E706E67',NULL,'{"published.png": {"size": 162, "mtime_ns": 1795920960015011393, "ctime_ns": 1795920960015011393, "inode": 2245880, "device": 65024}}',NULL,'a62a317cce72aaf25f1a2a7bb117fad0bf6500413eceefb7e94bde163603cb64',162,64,64,NULL,'2026-11-29T02:56:00.964409Z',NULL);
INSERT INTO "drops" VALUES('f47679a4cd48486eb1b06384fbaa7c80','in','gone','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F6634373637396134636434383438366562316230363338346662616137633830',X'77726F6E672E706E67',X'77726F6E672E79616D6C','{"wrong.yaml": {"size": 9, "mtime_ns": 1795920960015496160, "ctime_ns": 1795920960015496160, "inode": 2246116, "device": 65024}, "wrong.png": {"size": 159, "mtime_ns": 1795920960015430141, "ctime_ns": 1795920960015430141, "inode": 2246099, "device": 65024}}',NULL,'3b7760950928effe48189e2892560694a5cb9ab138115e1b49d08b78fedd710c',159,64,64,'stepz: 3
','2026-11-29T02:56:00.964490Z',NULL);
INSERT INTO "drops" VALUES('876803e7ceae45a6867072e3f5642c11','kept','gone','keep',X'',X'@ROOT_HEX@2F646174612F636C61696D732F3837363830336537636561653435613638363730373265336635363432633131',X'6B6570745F646F6E652E706E67',NULL,'{"kept_done.png": {"size": 161, "mtime_ns": 1795920960015898844, "ctime_ns": 1795920960015898844, "inode": 2573613, "device": 65024}}',NULL,'1d6971b4ba7df4f20ee75c9c664131733fee39a578ecfac7f68da717f0bd7faf',161,64,64,NULL,'2026-11-29T02:56:01.544898Z',NULL);
INSERT INTO "drops" VALUES('10a8b91ea64049bbb12cd916e2b1e1e3','in','gone','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F3130613862393165613634303439626262313263643931366532623165316533',X'62726F6B656E2E706E67',NULL,'{"broken.png": {"size": 10, "mtime_ns": 1795920960015113496, "ctime_ns": 1795920960015113496, "inode": 2246083, "device": 65024}}','{"code": "image_unreadable", "message": "The file cannot be read as an image; export it again and drop it anew.", "detail": "not an image in a format that is read (PNG, JPEG, WEBP, GIF, TIFF, BMP, AVIF, EXR), or broken at its start", "hint": "", "retryable": false}','9ed97c950c330a5b556b00fe9d46390594f0a34437886edd034c323444fbd7d8',10,NULL,NULL,NULL,'2026-11-29T02:56:10.245490Z',NULL);
INSERT INTO "drops" VALUES('80bf61f9bc754514970328b35efc7a40','in','gone','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F3830626636316639626337353435313439373033323862333565666337613430',X'63616E63656C6C65642E706E67',NULL,'{"cancelled.png": {"size": 162, "mtime_ns": 1795920972590385228, "ctime_ns": 1795920972590385228, "inode": 2245880, "device": 65024}}',NULL,'3cac60990e7a90bcf6714979ab105c3db6425ead3ee0896205c5f47d5fdf1d18',162,64,64,NULL,'2026-11-29T02:56:13.244615Z',NULL);
INSERT INTO "drops" VALUES('29d1e292e2f74d75a6c173ad73ec4ac2','in','claimed','archive',X'73686F7473',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F3239643165323932653266373464373561366331373361643733656334616332',NULL,NULL,'{"shots/list.csv": {"size": 48, "mtime_ns": 1795920973800287812, "ctime_ns": 1795920973800287812, "inode": 2246049, "device": 65024}}',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:56:14.753017Z','29d1e292e2f74d75a6c173ad73ec4ac2');
INSERT INTO "drops" VALUES('e4e8f0df310d4334850d97732581e0a0','in','claimed','archive',X'73686F7473',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F6534653866306466333130643433333438353064393737333235383165306130',X'612E706E67',NULL,'{"shots/a.png": {"size": 162, "mtime_ns": 1795920973783844973, "ctime_ns": 1795920973783844973, "inode": 2245927, "device": 65024}}',NULL,'290e744a85ffd53bdab68924167502b75b6134ba5ca4d79e0beef046f5d79eca',162,64,64,NULL,'2026-11-29T02:56:14.753082Z','29d1e292e2f74d75a6c173ad73ec4ac2');
INSERT INTO "drops" VALUES('4a472e17c17046ba96640412e13d28e2','in','claimed','archive',X'73686F7473',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F3461343732653137633137303436626139363634303431326531336432386532',X'622E706E67',NULL,'{"shots/b.png": {"size": 162, "mtime_ns": 1795920973793510719, "ctime_ns": 1795920973793510719, "inode": 2246036, "device": 65024}}',NULL,'e02b5a440b9692d3309777fc58135b3d4b908395d22dfc3f02a560dd62226711',162,64,64,NULL,'2026-11-29T02:56:14.753107Z','29d1e292e2f74d75a6c173ad73ec4ac2');
INSERT INTO "drops" VALUES('ea6d579b8c4e45bfabc8cd0ad8e45847','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F6561366435373962386334653435626661626338636430616438653435383437',X'6D61747269782E706E67',X'6D61747269782E706E672E79616D6C','{"matrix.png.yaml": {"size": 62, "mtime_ns": 1795920994115038787, "ctime_ns": 1795920994115038787, "inode": 2245960, "device": 65024}, "matrix.png": {"size": 161, "mtime_ns": 1795920994114950549, "ctime_ns": 1795920994114950549, "inode": 2245943, "device": 65024}}',NULL,'adaee164cca7309292a96e8193e9f9a9ca36e83b369425ba2f2db8aadba3c4d5',161,64,64,'matrix:
  remove_background.force: [true, false]
priority: -5
','2026-11-29T02:56:35.102327Z',NULL);
INSERT INTO "drops" VALUES('cb4df8280b294e5c9b8f490455d54bfb','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F6362346466383238306232393465356339623866343930343535643534626662',X'72756E6E696E672E706E67',X'72756E6E696E672E706E672E79616D6C','{"running.png.yaml": {"size": 13, "mtime_ns": 1795920996181220289, "ctime_ns": 1795920996181220289, "inode": 2245992, "device": 65024}, "running.png": {"size": 163, "mtime_ns": 1795920996181116428, "ctime_ns": 1795920996181116428, "inode": 2245975, "device": 65024}}',NULL,'0d3cabf0991b5425a044692644cab8d23d5753b82f893a09b06bae47dd15e924',163,64,64,'priority: 90
','2026-11-29T02:56:37.288518Z',NULL);
INSERT INTO "drops" VALUES('48aa2862ca9f49718045601d53480e30','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F3438616132383632636139663439373138303435363031643533343830653330',X'746F5F63616E63656C2E706E67',X'746F5F63616E63656C2E706E672E79616D6C','{"to_cancel.png.yaml": {"size": 13, "mtime_ns": 1795920998217298643, "ctime_ns": 1795920998217298643, "inode": 2246019, "device": 65024}, "to_cancel.png": {"size": 163, "mtime_ns": 1795920998217209311, "ctime_ns": 1795920998217209311, "inode": 2246004, "device": 65024}}',NULL,'d1da5e22cff81893a397789bc2132438f19fb3bea6718a839e1c4a3999d8517f',163,64,64,'priority: 90
','2026-11-29T02:56:39.428638Z',NULL);
INSERT INTO "drops" VALUES('bca40a81bd224a7ea9e2e8100e9e1d2f','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F6263613430613831626432323461376561396532653831303065396531643266',X'72657472795F776169742E706E67',X'72657472795F776169742E706E672E79616D6C','{"retry_wait.png.yaml": {"size": 13, "mtime_ns": 1795921000306299776, "ctime_ns": 1795921000306299776, "inode": 2246052, "device": 65024}, "retry_wait.png": {"size": 163, "mtime_ns": 1795921000306166237, "ctime_ns": 1795921000306166237, "inode": 2246039, "device": 65024}}',NULL,'6709ad8cdfce1ed2c1c03659c9a7299666add019a1b5af3422ff887716c97b2c',163,64,64,'priority: 90
','2026-11-29T02:56:41.844577Z',NULL);
INSERT INTO "drops" VALUES('07dbbd8963034040bcb4e4100f12068c','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F3037646262643839363330333430343062636234653431303066313230363863',X'636F6D70757465642E706E67',X'636F6D70757465642E706E672E79616D6C','{"computed.png.yaml": {"size": 13, "mtime_ns": 1795921002541397753, "ctime_ns": 1795921002541397753, "inode": 2245961, "device": 65024}, "computed.png": {"size": 164, "mtime_ns": 1795921002541311502, "ctime_ns": 1795921002541311502, "inode": 2245945, "device": 65024}}',NULL,'227a1b81e26a1ef15847768f4da054ff2c4aae2a3d9972531314a4b9ffd9e0c6',164,64,64,'priority: 90
','2026-11-29T02:56:43.632565Z',NULL);
INSERT INTO "drops" VALUES('ec5f13e6c0ff49a9840226f3115490a7','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F6563356631336536633066663439613938343032323666333131353439306137',X'706C616E6E65642E706E67',X'706C616E6E65642E706E672E79616D6C','{"planned.png.yaml": {"size": 13, "mtime_ns": 1795921004641184119, "ctime_ns": 1795921004641184119, "inode": 2245994, "device": 65024}, "planned.png": {"size": 164, "mtime_ns": 1795921004641088060, "ctime_ns": 1795921004641088060, "inode": 2245976, "device": 65024}}',NULL,'8cc107901b791e9b7a8c4f51d1e4f8fad618e21444f7880bd1e7816222ee6ec0',164,64,64,'priority: 90
','2026-11-29T02:56:45.741361Z',NULL);
INSERT INTO "drops" VALUES('244553468f39456d8b0684a9d9b68bae','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F3234343535333436386633393435366438623036383461396439623638626165',X'7075626C6973685F68656C642E706E67',X'7075626C6973685F68656C642E706E672E79616D6C','{"publish_held.png.yaml": {"size": 13, "mtime_ns": 1795921006849181786, "ctime_ns": 1795921006849181786, "inode": 2246020, "device": 65024}, "publish_held.png": {"size": 164, "mtime_ns": 1795921006849083344, "ctime_ns": 1795921006849083344, "inode": 2246005, "device": 65024}}',NULL,'1c474f997d9a4911cee622c57087797c85db174cab9f9327608722849e635325',164,64,64,'priority: 90
','2026-11-29T02:56:48.024441Z',NULL);
INSERT INTO "drops" VALUES('ce142d0783b944cba0d87513899f6054','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F6365313432643037383362393434636261306438373531333839396636303534',X'6661696C65645F756E7075626C69736865642E706E67',X'6661696C65645F756E7075626C69736865642E706E672E79616D6C','{"failed_unpublished.png.yaml": {"size": 13, "mtime_ns": 1795921008978146145, "ctime_ns": 1795921008978146145, "inode": 2245875, "device": 65024}, "failed_unpublished.png": {"size": 164, "mtime_ns": 1795921008978046203, "ctime_ns": 1795921008978046203, "inode": 2245860, "device": 65024}}',NULL,'32a802cff6a10d0a1952c13c5b02c5f7e83c2af862e27204780cd0f45c51da83',164,64,64,'priority: 90
','2026-11-29T02:56:49.760382Z',NULL);
INSERT INTO "drops" VALUES('a39e3c97d9964243907f6c7194f7ef63','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F6133396533633937643939363432343339303766366337313934663765663633',X'696E7465727275707465642E706E67',X'696E7465727275707465642E706E672E79616D6C','{"interrupted.png.yaml": {"size": 13, "mtime_ns": 1795921011087991818, "ctime_ns": 1795921011087991818, "inode": 2246084, "device": 65024}, "interrupted.png": {"size": 164, "mtime_ns": 1795921011087906353, "ctime_ns": 1795921011087906353, "inode": 2246069, "device": 65024}}',NULL,'f5c03ad117b86a41e5ca7f5e4ab257698e9cdc1b9c81aedb3f23b714fd7f53c8',164,64,64,'priority: 90
','2026-11-29T02:56:51.998907Z',NULL);
INSERT INTO "drops" VALUES('a4494a4011904018a62b5291adf53d92','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F6134343934613430313139303430313861363262353239316164663533643932',X'6465766963652E706E67',X'6465766963652E706E672E79616D6C','{"device.png.yaml": {"size": 12, "mtime_ns": 1795921013136838703, "ctime_ns": 1795921013136838703, "inode": 2246118, "device": 65024}, "device.png": {"size": 164, "mtime_ns": 1795921013135430079, "ctime_ns": 1795921013135430079, "inode": 2246100, "device": 65024}}',NULL,'df3bbfe96b67b7eba797dfe6357b6f3f791d59d5650cae6eab5a0307c4cf8a28',164,64,64,'priority: 0
','2026-11-29T02:56:54.271222Z',NULL);
INSERT INTO "drops" VALUES('4620fdc5a54e4ddaacc6935832105338','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F3436323066646335613534653464646161636336393335383332313035333338',X'776569676874732E706E67',X'776569676874732E706E672E79616D6C','{"weights.png.yaml": {"size": 16, "mtime_ns": 1795921015210250030, "ctime_ns": 1795921015210250030, "inode": 2246240, "device": 65024}, "weights.png": {"size": 164, "mtime_ns": 1795921015210155264, "ctime_ns": 1795921015210155264, "inode": 2246070, "device": 65024}}',NULL,'da57f9ca9530cac23af30b5187493368956955bbe91f1dadf0ab4f8b423f1e66',164,64,64,'pipeline: paint
','2026-11-29T02:56:56.046768Z',NULL);
INSERT INTO "drops" VALUES('9ac85836e3b047fcbc26bb2b16d40090','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F3961633835383336653362303437666362633236626232623136643430303930',X'6469736B2E706E67',X'6469736B2E706E672E79616D6C','{"disk.png.yaml": {"size": 12, "mtime_ns": 1795921017297467869, "ctime_ns": 1795921017297467869, "inode": 2245962, "device": 65024}, "disk.png": {"size": 164, "mtime_ns": 1795921017297358061, "ctime_ns": 1795921017297358061, "inode": 2245946, "device": 65024}}',NULL,'a235d590a37b79bd55d6c68a13cb873390b25283650b8b9fe8a01439359c3b45',164,64,64,'priority: 0
','2026-11-29T02:56:58.520918Z',NULL);
INSERT INTO "drops" VALUES('5331e5f673964efaaa0fc4fc99bcffa5','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F3533333165356636373339363465666161613066633466633939626366666135',X'617761792E706E67',X'617761792E706E672E79616D6C','{"away.png.yaml": {"size": 12, "mtime_ns": 1795921019394808948, "ctime_ns": 1795921019394808948, "inode": 2245866, "device": 65024}, "away.png": {"size": 164, "mtime_ns": 1795921019394696542, "ctime_ns": 1795921019394696542, "inode": 2245847, "device": 65024}}',NULL,'e00b5d46207ebef8cc9f87e8a1b2d27a5f785bb877113d9a589b7453d7e9eac3',164,64,64,'priority: 0
','2026-11-29T02:57:00.522606Z',NULL);
INSERT INTO "drops" VALUES('f95ff27e277c47388adfffc50342bb6c','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F6639356666323765323737633437333838616466666663353033343262623663',X'7061757365642E706E67',X'7061757365642E706E672E79616D6C','{"paused.png.yaml": {"size": 16, "mtime_ns": 1795921021470638335, "ctime_ns": 1795921021470638335, "inode": 2245937, "device": 65024}, "paused.png": {"size": 164, "mtime_ns": 1795921021470531539, "ctime_ns": 1795921021470531539, "inode": 2245936, "device": 65024}}',NULL,'fd67937639c66292de1809bd6aab81d3d9fd9f49f5f37592f736ae42640693fb',164,64,64,'pipeline: other
','2026-11-29T02:57:02.460491Z',NULL);
INSERT INTO "drops" VALUES('8824e47c5e2a489494b3e6a6472299e9','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F3838323465343763356532613438393439346233653661363437323239396539',X'6C617465722E706E67',X'6C617465722E706E672E79616D6C','{"later.png.yaml": {"size": 33, "mtime_ns": 1795921023581019063, "ctime_ns": 1795921023581019063, "inode": 2245973, "device": 65024}, "later.png": {"size": 164, "mtime_ns": 1795921023580934042, "ctime_ns": 1795921023580934042, "inode": 2245957, "device": 65024}}',NULL,'97780cd982183e2781ee36ba76ca7aca59eae08d037986c48ed2b5e552d5b7c3',164,64,64,'not_before: 2026-11-29T02:58:33Z
','2026-11-29T02:57:04.452535Z',NULL);
INSERT INTO "drops" VALUES('51e157fea4c44cdeb60ebbaf7875effc','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F3531653135376665613463343463646562363065626261663738373565666663',X'7175657565642E706E67',NULL,'{"queued.png": {"size": 164, "mtime_ns": 1795921025625754785, "ctime_ns": 1795921025625754785, "inode": 2245991, "device": 65024}}',NULL,'08194fb123eecc068ca8a3619a4b8e2a1609992dbd7eafd89d6aa16b8986a081',164,64,64,NULL,'2026-11-29T02:57:06.580531Z',NULL);
INSERT INTO "drops" VALUES('c91585f9b1bc4ce2838297180a598b89','kept','claimed','keep',X'',X'@ROOT_HEX@2F646174612F636C61696D732F6339313538356639623162633463653238333832393731383061353938623839',X'6B6570745F7175657565642E706E67',NULL,'{"kept_queued.png": {"size": 163, "mtime_ns": 1795921025626043773, "ctime_ns": 1795921025626043773, "inode": 2572372, "device": 65024}}',NULL,'8869ad8f12a965be23adbd9c6c2bc9d7de0df4e3d2c550149e5934d3b0ffdc0c',163,64,64,NULL,'2026-11-29T02:57:06.626472Z',NULL);
INSERT INTO "drops" VALUES('2562c45fd88f44acafb929382e6f06de','in','claiming','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3266623961393731343230632F3235363263343566643838663434616361666239323933383265366630366465',X'636C61696D696E672E706E67',X'636C61696D696E672E706E672E79616D6C','{"claiming.png.yaml": {"size": 17, "mtime_ns": 1795921027697590515, "ctime_ns": 1795921027697590515, "inode": 2246018, "device": 65024}, "claiming.png": {"size": 163, "mtime_ns": 1795921027697479885, "ctime_ns": 1795921027697479885, "inode": 2246003, "device": 65024}}',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:57:15.021831Z',NULL);
INSERT INTO "drops" VALUES('7a938344264144eeaa3889feb8b37211','submit','claimed','archive',X'',X'@ROOT_HEX@2F646174612F636C61696D732F3761393338333434323634313434656561613338383966656238623337323131',X'7375626D69747465642E706E67',X'7375626D69747465642E706E672E79616D6C','{}',NULL,'1586b9d970df4cf4dfa17d39180c73e84874ce997f3f20f785b9d8e90aeb378e',158,64,64,'{
  "pipeline": "cut"
}','2026-11-29T02:57:19.894379Z',NULL);
CREATE TABLE events (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	job_id TEXT NOT NULL, 
	at TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	data JSON NOT NULL
);
INSERT INTO "events" VALUES(1,'c50ec2224328441198e6a8f7614ca03c','2026-11-29T02:56:01.489045Z','queued','{"inbox": "in", "name": "published.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(2,'d69c6894bf154193acfc73da2c4b73be','2026-11-29T02:56:01.489045Z','queued','{"inbox": "in", "name": "wrong.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(3,'d69c6894bf154193acfc73da2c4b73be','2026-11-29T02:56:01.489045Z','failed','{"code": "sidecar_invalid", "detail": "line 1: unknown key ''stepz''; known here: image, images, matrix, max_failures, meta, not_before, on_duplicate, pipeline, priority, remove_background, seed, tags"}');
INSERT INTO "events" VALUES(4,'5ee59a84cdf14f12b416ed2762706278','2026-11-29T02:56:01.669762Z','queued','{"inbox": "kept", "name": "kept_done.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(5,'55ea3b7f04a7490285f7e392504e7681','2026-11-29T02:56:10.273786Z','queued','{"inbox": "in", "name": "broken.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(6,'55ea3b7f04a7490285f7e392504e7681','2026-11-29T02:56:10.273786Z','failed','{"code": "image_unreadable", "detail": "not an image in a format that is read (PNG, JPEG, WEBP, GIF, TIFF, BMP, AVIF, EXR), or broken at its start"}');
INSERT INTO "events" VALUES(7,'c50ec2224328441198e6a8f7614ca03c','2026-11-29T02:56:12.087584Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(8,'5ee59a84cdf14f12b416ed2762706278','2026-11-29T02:56:12.137213Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(9,'c50ec2224328441198e6a8f7614ca03c','2026-11-29T02:56:12.246696Z','completed','{}');
INSERT INTO "events" VALUES(10,'5ee59a84cdf14f12b416ed2762706278','2026-11-29T02:56:12.458125Z','completed','{}');
INSERT INTO "events" VALUES(11,'84a44c5594ac455c953b84f79fa4fe5d','2026-11-29T02:56:13.284455Z','queued','{"inbox": "in", "name": "cancelled.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(12,'84a44c5594ac455c953b84f79fa4fe5d','2026-11-29T02:56:13.644093Z','cancelled','{"code": "cancelled", "detail": "cancelled before it started"}');
INSERT INTO "events" VALUES(13,'0aec81a6e24e4b8e80345a9133f4977e','2026-11-29T02:56:15.055041Z','queued','{"inbox": "in", "name": "a.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(14,'07c9d43187f74e049b1caa117bfde2c7','2026-11-29T02:56:15.055041Z','queued','{"inbox": "in", "name": "b.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(15,'0aec81a6e24e4b8e80345a9133f4977e','2026-11-29T02:56:33.880368Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(16,'0aec81a6e24e4b8e80345a9133f4977e','2026-11-29T02:56:34.102210Z','completed','{}');
INSERT INTO "events" VALUES(17,'be8b51ef39d048cca6075271921b8ab2','2026-11-29T02:56:35.151279Z','queued','{"inbox": "in", "name": "matrix.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(18,'38696455ae894121935bf9142f98bd0c','2026-11-29T02:56:35.151279Z','queued','{"inbox": "in", "name": "matrix.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(19,'ff30ff271f55421982de146660f56edf','2026-11-29T02:56:37.343212Z','queued','{"inbox": "in", "name": "running.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(20,'ff30ff271f55421982de146660f56edf','2026-11-29T02:56:38.197638Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(21,'490f61b275e14ed0963f6e991087f4c4','2026-11-29T02:56:39.518466Z','queued','{"inbox": "in", "name": "to_cancel.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(22,'490f61b275e14ed0963f6e991087f4c4','2026-11-29T02:56:40.253768Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(23,'1c0fcbeb9b994b8c8c0cf255691805c6','2026-11-29T02:56:41.946954Z','queued','{"inbox": "in", "name": "retry_wait.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(24,'1c0fcbeb9b994b8c8c0cf255691805c6','2026-11-29T02:56:42.411413Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(25,'4a47e0dd8f5949f4a0514bb7acfcb458','2026-11-29T02:56:43.729774Z','queued','{"inbox": "in", "name": "computed.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(26,'4a47e0dd8f5949f4a0514bb7acfcb458','2026-11-29T02:56:44.593541Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(27,'d4f7ff7fb77744beb1f90ea77da09fe7','2026-11-29T02:56:45.810354Z','queued','{"inbox": "in", "name": "planned.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(28,'d4f7ff7fb77744beb1f90ea77da09fe7','2026-11-29T02:56:46.705394Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(29,'b00147d3af7f40ecbe23530edd563018','2026-11-29T02:56:48.058312Z','queued','{"inbox": "in", "name": "publish_held.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(30,'b00147d3af7f40ecbe23530edd563018','2026-11-29T02:56:48.893398Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(31,'5fb8fa4dda294d5e9893fea6ab08411c','2026-11-29T02:56:49.803683Z','queued','{"inbox": "in", "name": "failed_unpublished.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(32,'5fb8fa4dda294d5e9893fea6ab08411c','2026-11-29T02:56:51.062390Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(33,'5fb8fa4dda294d5e9893fea6ab08411c','2026-11-29T02:56:51.075872Z','failed','{"code": "stage_failed", "detail": "broke"}');
INSERT INTO "events" VALUES(34,'01fffac8cdfc4fbfb8529e69a6d10b5b','2026-11-29T02:56:52.054666Z','queued','{"inbox": "in", "name": "interrupted.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(35,'01fffac8cdfc4fbfb8529e69a6d10b5b','2026-11-29T02:56:53.111410Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(36,'67db70f9151e47c392649855fb8ee78e','2026-11-29T02:56:54.322278Z','queued','{"inbox": "in", "name": "device.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(37,'4d4a17be23be4d1aafe285f029b780ac','2026-11-29T02:56:56.197544Z','queued','{"inbox": "in", "name": "weights.png", "pipeline": "paint"}');
INSERT INTO "events" VALUES(38,'313f7902fa674fd488dde19c059aa669','2026-11-29T02:56:58.603123Z','queued','{"inbox": "in", "name": "disk.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(39,'61bef7232f104411863c137334a8a1c6','2026-11-29T02:57:00.636749Z','queued','{"inbox": "in", "name": "away.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(40,'faceefe78fcc4db9b3a547a21f9588cf','2026-11-29T02:57:02.498315Z','queued','{"inbox": "in", "name": "paused.png", "pipeline": "other"}');
INSERT INTO "events" VALUES(41,'69fc42ee83ed459ea9db53e76e386237','2026-11-29T02:57:04.459183Z','queued','{"inbox": "in", "name": "later.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(42,'7a83dc4525c0441281775b146a1f28fc','2026-11-29T02:57:06.613012Z','queued','{"inbox": "in", "name": "queued.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(43,'1b661b9c25c445f6a2804993ced30523','2026-11-29T02:57:06.651221Z','queued','{"inbox": "kept", "name": "kept_queued.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(44,'15e8e160170c4d80bc229033ba71576f','2026-11-29T02:57:20.781101Z','queued','{"inbox": "submit", "name": "submitted.png", "pipeline": "cut"}');
CREATE TABLE jobs (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	drop_id TEXT NOT NULL, 
	batch TEXT, 
	inbox TEXT NOT NULL, 
	folder TEXT NOT NULL, 
	name TEXT NOT NULL, 
	stem TEXT NOT NULL, 
	pipeline TEXT NOT NULL, 
	priority INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	hold TEXT, 
	hold_detail TEXT, 
	not_before TEXT, 
	stages JSON NOT NULL, 
	models TEXT NOT NULL, 
	tags JSON NOT NULL, 
	meta JSON NOT NULL, 
	attempt INTEGER NOT NULL, 
	crashes INTEGER NOT NULL, 
	interruptions INTEGER NOT NULL, 
	cancel_requested BOOLEAN NOT NULL, 
	stage TEXT, 
	error JSON, 
	publish TEXT, 
	publish_name TEXT, 
	manifest_sha256 TEXT, 
	created_at TEXT NOT NULL, 
	started_at TEXT, 
	finished_at TEXT, "key" TEXT, request TEXT, 
	PRIMARY KEY (seq), 
	FOREIGN KEY(drop_id) REFERENCES drops (id), 
	UNIQUE (id)
);
INSERT INTO "jobs" VALUES(1,'c50ec2224328441198e6a8f7614ca03c','d8f45731756a44b8b895547bda8b3af7',NULL,'in','','published.png','published','cut',0,'completed',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,0,NULL,NULL,'done','in/published-c50ec222','157c789bb6de4950735f4fbe494159ba080950664f8127cc8c6d9e8c52c40d46','2026-11-29T02:56:00.994037Z','2026-11-29T02:56:12.084531Z','2026-11-29T02:56:12.129493Z',NULL,NULL);
INSERT INTO "jobs" VALUES(2,'d69c6894bf154193acfc73da2c4b73be','f47679a4cd48486eb1b06384fbaa7c80',NULL,'in','','wrong.png','wrong','cut',0,'failed',NULL,NULL,NULL,'[]','','[]','{}',0,0,0,0,NULL,'{"code": "sidecar_invalid", "message": "The YAML beside the image cannot be used as it is; correct it and retry the job.", "detail": "line 1: unknown key ''stepz''; known here: image, images, matrix, max_failures, meta, not_before, on_duplicate, pipeline, priority, remove_background, seed, tags", "hint": "", "retryable": false}','done','in/failed/wrong-d69c6894','689b85ccbcb6cd436946b8cb4f0b67657c9a0866de28aae8fccc29e0642c8747','2026-11-29T02:56:00.994758Z',NULL,'2026-11-29T02:56:00.994826Z',NULL,NULL);
INSERT INTO "jobs" VALUES(3,'5ee59a84cdf14f12b416ed2762706278','876803e7ceae45a6867072e3f5642c11',NULL,'kept','','kept_done.png','kept_done','cut',0,'completed',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,0,NULL,NULL,'done','kept/kept_done-5ee59a84','f8f6f8559bb05a4fd0613a00a599b86e272a60f149386e275c7ade6a19a7848f','2026-11-29T02:56:01.662326Z','2026-11-29T02:56:12.136433Z','2026-11-29T02:56:12.147020Z',NULL,NULL);
INSERT INTO "jobs" VALUES(4,'55ea3b7f04a7490285f7e392504e7681','10a8b91ea64049bbb12cd916e2b1e1e3',NULL,'in','','broken.png','broken','cut',0,'failed',NULL,NULL,NULL,'[]','','[]','{}',0,0,0,0,NULL,'{"code": "image_unreadable", "message": "The file cannot be read as an image; export it again and drop it anew.", "detail": "not an image in a format that is read (PNG, JPEG, WEBP, GIF, TIFF, BMP, AVIF, EXR), or broken at its start", "hint": "", "retryable": false}','done','in/failed/broken-55ea3b7f','27fc4d0403afe5c4f83df01334caff423e4b30e42ca6fe7487a1f997378f5447','2026-11-29T02:56:10.272478Z',NULL,'2026-11-29T02:56:10.272538Z',NULL,NULL);
INSERT INTO "jobs" VALUES(5,'84a44c5594ac455c953b84f79fa4fe5d','80bf61f9bc754514970328b35efc7a40',NULL,'in','','cancelled.png','cancelled','cut',0,'cancelled',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,'{"code": "cancelled", "message": "The job was cancelled; `dna-pipeline retry` runs it again.", "detail": "cancelled before it started", "hint": "", "retryable": true}','done','in/failed/cancelled-84a44c55','ce1832e05fc4f6d8ca6135ad930b46c88b1a11cc9fa179b5f59f1928b30eb482','2026-11-29T02:56:13.278948Z',NULL,'2026-11-29T02:56:13.641885Z',NULL,NULL);
INSERT INTO "jobs" VALUES(6,'0aec81a6e24e4b8e80345a9133f4977e','e4e8f0df310d4334850d97732581e0a0','29d1e292e2f74d75a6c173ad73ec4ac2','in','shots','a.png','a','cut',50,'completed',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,0,NULL,NULL,'done','in/shots/list-29d1e292/a-0aec81a6','87ce459b2d1a323260e4e53f15b0d45243f2f916e33d86fad79a3bbc1716c040','2026-11-29T02:56:14.949327Z','2026-11-29T02:56:33.851152Z','2026-11-29T02:56:33.933966Z','7feac7ae3d62551f69386c6231738a6a9173ef881a132a7629ca3fc5f68a1a6f','{
  "priority": 50
}
');
INSERT INTO "jobs" VALUES(7,'07c9d43187f74e049b1caa117bfde2c7','4a472e17c17046ba96640412e13d28e2','29d1e292e2f74d75a6c173ad73ec4ac2','in','shots','b.png','b','cut',1,'queued',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:56:14.949710Z',NULL,NULL,'73bbe9a13ba2df22d3161840400db92b47c29899ba1597e2e01a7b7afd455448','{
  "priority": 1
}
');
INSERT INTO "jobs" VALUES(8,'be8b51ef39d048cca6075271921b8ab2','ea6d579b8c4e45bfabc8cd0ad8e45847','267e8e2491f94575a08ed6d1f47d2390','in','','matrix.png','matrix','cut',-5,'queued',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": true, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:56:35.149615Z',NULL,NULL,NULL,'{
  "priority": -5,
  "remove_background": {
    "force": true
  }
}
');
INSERT INTO "jobs" VALUES(9,'38696455ae894121935bf9142f98bd0c','ea6d579b8c4e45bfabc8cd0ad8e45847','267e8e2491f94575a08ed6d1f47d2390','in','','matrix.png','matrix','cut',-5,'queued',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:56:35.149651Z',NULL,NULL,NULL,'{
  "priority": -5,
  "remove_background": {
    "force": false
  }
}
');
INSERT INTO "jobs" VALUES(10,'ff30ff271f55421982de146660f56edf','cb4df8280b294e5c9b8f490455d54bfb',NULL,'in','','running.png','running','cut',90,'running',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:56:37.341693Z','2026-11-29T02:56:38.196782Z',NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(11,'490f61b275e14ed0963f6e991087f4c4','48aa2862ca9f49718045601d53480e30',NULL,'in','','to_cancel.png','to_cancel','cut',90,'running',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,1,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:56:39.517067Z','2026-11-29T02:56:40.252498Z',NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(12,'1c0fcbeb9b994b8c8c0cf255691805c6','bca40a81bd224a7ea9e2e8100e9e1d2f',NULL,'in','','retry_wait.png','retry_wait','cut',90,'queued','retry_wait','its worker ended 1 times; the next try is at 02:56:44 UTC','2026-11-29T02:56:44.520604Z','[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,1,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:56:41.945152Z','2026-11-29T02:56:42.410205Z',NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(13,'4a47e0dd8f5949f4a0514bb7acfcb458','07dbbd8963034040bcb4e4100f12068c',NULL,'in','','computed.png','computed','cut',90,'running',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,0,NULL,NULL,'pending',NULL,NULL,'2026-11-29T02:56:43.727861Z','2026-11-29T02:56:44.592644Z','2026-11-29T02:56:44.611040Z',NULL,NULL);
INSERT INTO "jobs" VALUES(14,'d4f7ff7fb77744beb1f90ea77da09fe7','ec5f13e6c0ff49a9840226f3115490a7',NULL,'in','','planned.png','planned','cut',90,'running',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,0,NULL,NULL,'planned','in/planned-d4f7ff7f','c81f7fb2cf5a63e29c8e9ca074d5cd26a9a3e1d59bc43471f0a3c3b00cdcc33c','2026-11-29T02:56:45.794874Z','2026-11-29T02:56:46.704422Z','2026-11-29T02:56:46.714230Z',NULL,NULL);
INSERT INTO "jobs" VALUES(15,'b00147d3af7f40ecbe23530edd563018','244553468f39456d8b0684a9d9b68bae',NULL,'in','','publish_held.png','publish_held','cut',90,'running','outbox_unavailable','the outbox is away',NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,0,NULL,NULL,'pending',NULL,NULL,'2026-11-29T02:56:48.057123Z','2026-11-29T02:56:48.892416Z','2026-11-29T02:56:48.907889Z',NULL,NULL);
INSERT INTO "jobs" VALUES(16,'5fb8fa4dda294d5e9893fea6ab08411c','ce142d0783b944cba0d87513899f6054',NULL,'in','','failed_unpublished.png','failed_unpublished','cut',90,'failed',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,0,'remove_background','{"code": "stage_failed", "message": "A stage failed in a way that was not foreseen; see the detail and the log, then mend the cause and retry the job.", "detail": "broke", "hint": "", "retryable": false}','pending',NULL,NULL,'2026-11-29T02:56:49.802547Z','2026-11-29T02:56:51.051403Z','2026-11-29T02:56:51.074749Z',NULL,NULL);
INSERT INTO "jobs" VALUES(17,'01fffac8cdfc4fbfb8529e69a6d10b5b','a39e3c97d9964243907f6c7194f7ef63',NULL,'in','','interrupted.png','interrupted','cut',90,'queued',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:56:52.053113Z','2026-11-29T02:56:53.110146Z',NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(18,'67db70f9151e47c392649855fb8ee78e','a4494a4011904018a62b5291adf53d92',NULL,'in','','device.png','device','cut',0,'queued','device_unavailable','held as device_unavailable',NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:56:54.321115Z',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(19,'4d4a17be23be4d1aafe285f029b780ac','4620fdc5a54e4ddaacc6935832105338',NULL,'in','','weights.png','weights','paint',0,'queued','weights_missing','held as weights_missing',NULL,'[{"id": "img2img", "type": "img2img", "params": {"model": "sd", "prompt": "a weights", "negative_prompt": "", "seed": 42, "steps": 20, "guidance_scale": 7.5, "strength": 0.75, "sampler": "euler", "schedule": "normal", "max_size": 768}}]','sd','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:56:56.145919Z',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(20,'313f7902fa674fd488dde19c059aa669','9ac85836e3b047fcbc26bb2b16d40090',NULL,'in','','disk.png','disk','cut',0,'queued','disk_full','held as disk_full',NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:56:58.600673Z',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(21,'61bef7232f104411863c137334a8a1c6','5331e5f673964efaaa0fc4fc99bcffa5',NULL,'in','','away.png','away','cut',0,'queued','inbox_unavailable','held as inbox_unavailable',NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:57:00.623212Z',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(22,'faceefe78fcc4db9b3a547a21f9588cf','f95ff27e277c47388adfffc50342bb6c',NULL,'in','','paused.png','paused','other',0,'queued','paused','held as paused',NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:57:02.497052Z',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(23,'69fc42ee83ed459ea9db53e76e386237','8824e47c5e2a489494b3e6a6472299e9',NULL,'in','','later.png','later','cut',0,'queued','not_before','starts at 2026-11-29 02:58 UTC','2026-11-29T02:58:33.000000Z','[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:57:04.457448Z',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(24,'7a83dc4525c0441281775b146a1f28fc','51e157fea4c44cdeb60ebbaf7875effc',NULL,'in','','queued.png','queued','cut',0,'queued',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:57:06.605276Z',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(25,'1b661b9c25c445f6a2804993ced30523','c91585f9b1bc4ce2838297180a598b89',NULL,'kept','','kept_queued.png','kept_queued','cut',0,'queued',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:57:06.649573Z',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(26,'15e8e160170c4d80bc229033ba71576f','7a938344264144eeaa3889feb8b37211',NULL,'submit','','submitted.png','submitted','cut',0,'queued',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:57:20.741188Z',NULL,NULL,NULL,NULL);
CREATE TABLE known_files (
	inbox TEXT NOT NULL, 
	path BLOB NOT NULL, 
	stat JSON NOT NULL, 
	"key" TEXT NOT NULL, 
	error TEXT, 
	drop_id TEXT, 
	PRIMARY KEY (inbox, path)
);
INSERT INTO "known_files" VALUES('kept',X'6B6570745F646F6E652E706E67','{"kept_done.png": {"size": 161, "mtime_ns": 1795920960015898844, "ctime_ns": 1795920960015898844, "inode": 2573613, "device": 65024}}','17c8927c449deb3825612f5e69e3c0b05449eb7e98c68770773cb1b57a802768',NULL,'876803e7ceae45a6867072e3f5642c11');
INSERT INTO "known_files" VALUES('kept',X'6B6570745F7175657565642E706E67','{"kept_queued.png": {"size": 163, "mtime_ns": 1795921025626043773, "ctime_ns": 1795921025626043773, "inode": 2572372, "device": 65024}}','228b962a93d967871475b3585dca26e143635169eb7cb8d45b04c3bb46de9afb',NULL,'c91585f9b1bc4ce2838297180a598b89');
CREATE TABLE settings (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "settings" VALUES('ledger_id','2fb9a971420c');
INSERT INTO "settings" VALUES('watched:in','2026-11-29 02:56:00.105095+00:00');
INSERT INTO "settings" VALUES('watched:kept','2026-11-29 02:56:00.138788+00:00');
CREATE TABLE stage_runs (
	id INTEGER NOT NULL, 
	job_id TEXT NOT NULL, 
	stage_id TEXT NOT NULL, 
	type TEXT NOT NULL, 
	provider TEXT, 
	model JSON, 
	params JSON NOT NULL, 
	device TEXT NOT NULL, 
	dtype TEXT NOT NULL, 
	batch_size INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	seconds DOUBLE NOT NULL, 
	warnings JSON NOT NULL, 
	environment JSON NOT NULL, 
	finished_at TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(job_id) REFERENCES jobs (id)
);
INSERT INTO "stage_runs" VALUES(1,'c50ec2224328441198e6a8f7614ca03c','remove_background','remove_background','border_key',NULL,'{"force": false, "model": "key"}','cpu','float32',1,1,0.5,'[]','{"python": "3"}','2026-11-29T02:56:12.119287Z');
INSERT INTO "stage_runs" VALUES(2,'5ee59a84cdf14f12b416ed2762706278','remove_background','remove_background','border_key',NULL,'{"force": false, "model": "key"}','cpu','float32',1,1,0.5,'[]','{"python": "3"}','2026-11-29T02:56:12.146041Z');
INSERT INTO "stage_runs" VALUES(3,'0aec81a6e24e4b8e80345a9133f4977e','remove_background','remove_background','border_key',NULL,'{"force": false, "model": "key"}','cpu','float32',1,1,0.5,'[]','{"python": "3"}','2026-11-29T02:56:33.909156Z');
INSERT INTO "stage_runs" VALUES(4,'4a47e0dd8f5949f4a0514bb7acfcb458','remove_background','remove_background','border_key',NULL,'{"force": false, "model": "key"}','cpu','float32',1,1,0.5,'[]','{"python": "3"}','2026-11-29T02:56:44.609906Z');
INSERT INTO "stage_runs" VALUES(5,'d4f7ff7fb77744beb1f90ea77da09fe7','remove_background','remove_background','border_key',NULL,'{"force": false, "model": "key"}','cpu','float32',1,1,0.5,'[]','{"python": "3"}','2026-11-29T02:56:46.713136Z');
INSERT INTO "stage_runs" VALUES(6,'b00147d3af7f40ecbe23530edd563018','remove_background','remove_background','border_key',NULL,'{"force": false, "model": "key"}','cpu','float32',1,1,0.5,'[]','{"python": "3"}','2026-11-29T02:56:48.906731Z');
CREATE INDEX ix_drops_open ON drops (state) WHERE state <> 'gone';
CREATE INDEX ix_events_job ON events (job_id, id);
CREATE INDEX ix_jobs_runnable ON jobs (priority DESC, seq) WHERE status = 'queued' AND hold IS NULL;
CREATE INDEX ix_jobs_drop_id ON jobs (drop_id);
CREATE INDEX ix_jobs_due ON jobs (not_before) WHERE hold = 'not_before';
CREATE INDEX ix_jobs_inbox ON jobs (inbox);
CREATE INDEX ix_jobs_batch ON jobs (batch) WHERE batch IS NOT NULL;
CREATE INDEX ix_jobs_finished ON jobs (finished_at) WHERE publish = 'done';
CREATE INDEX ix_jobs_hold ON jobs (hold, models) WHERE hold IS NOT NULL;
CREATE INDEX ix_jobs_publish ON jobs (hold IS NOT NULL, seq) WHERE publish IN ('pending', 'planned');
CREATE INDEX ix_jobs_status ON jobs (status);
CREATE INDEX ix_jobs_status_inbox ON jobs (status, inbox);
CREATE INDEX ix_artifacts_job_id ON artifacts (job_id);
CREATE INDEX ix_stage_runs_job_id ON stage_runs (job_id);
CREATE UNIQUE INDEX ux_stage_runs_job_stage ON stage_runs (job_id, stage_id);
CREATE INDEX ix_drops_batch ON drops (batch) WHERE batch IS NOT NULL;
CREATE INDEX ix_jobs_key ON jobs ("key") WHERE key IS NOT NULL;
CREATE INDEX ix_batches_open ON batches (state) WHERE state <> 'done';
CREATE INDEX ix_batch_rows_job_id ON batch_rows (job_id);
CREATE INDEX ix_jobs_name ON jobs (inbox, folder, stem);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',44);
COMMIT;