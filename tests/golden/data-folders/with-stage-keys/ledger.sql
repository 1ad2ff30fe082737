BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0003');
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
INSERT INTO "artifacts" VALUES(1,'5aed08d1c3aa4a83adaf1f22eb44b1d8','remove_background','published.matte.png','matte','image/png',27,'41f4268842e38d093e1f4a1efd5fc8ac5cecb1d61c921e063ccd0c0294691e56','{"width": 64, "height": 64}');
INSERT INTO "artifacts" VALUES(2,'36cb1d5de34841a1806527bb8f044730','remove_background','kept_done.matte.png','matte','image/png',27,'e8c6bbb6721477c8877d6a3af461ce215c3c8342c1864c2dfb94830a21ffb83e','{"width": 64, "height": 64}');
INSERT INTO "artifacts" VALUES(3,'aa30f4bb56f94616b4bf1506a9a722f6','remove_background','a.matte.png','matte','image/png',19,'9a6b5c4afa2ff7ea54c4410f1524b088ca4e75b37db2ea1a7aeb2a7c68fe16fc','{"width": 64, "height": 64}');
INSERT INTO "artifacts" VALUES(4,'a2a60dee4ad748fd92e6595deb225ade','remove_background','computed.matte.png','matte','image/png',26,'4019c24345cca0feca0f647413ad4eca6b498943eeba906f83840d249cd34774','{"width": 64, "height": 64}');
INSERT INTO "artifacts" VALUES(5,'d08bcf0cdba748a5b794e8a9e736ddf3','remove_background','planned.matte.png','matte','image/png',25,'b593d677ea7f35684d9d4f71a2af770bd73765000e4eeabf437ef95cc648eb9d','{"width": 64, "height": 64}');
INSERT INTO "artifacts" VALUES(6,'5692e39a8de74b588c1b7df2d3c43755','remove_background','publish_held.matte.png','matte','image/png',30,'af617797b431edd3e6a56615759e98b878935dc4388d5129d54fc53c76ba4545','{"width": 64, "height": 64}');
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
INSERT INTO "batch_rows" VALUES('f75e60e6f5304dcd87f22506ccf12e44',2,'shots/a.png','aa30f4bb56f94616b4bf1506a9a722f6',NULL,NULL,NULL,NULL);
INSERT INTO "batch_rows" VALUES('f75e60e6f5304dcd87f22506ccf12e44',3,'shots/b.png','87019887aa6643c2b0020dfd657caefb',NULL,NULL,NULL,NULL);
INSERT INTO "batch_rows" VALUES('f75e60e6f5304dcd87f22506ccf12e44',4,'not_there.png',NULL,'wrong','image_missing','image','row 4: image: there is no ''not_there.png''');
INSERT INTO "batch_rows" VALUES('53f600d43eb743f1afd40b55a7623080',1,'matrix.png','3b8fe37cd86e449f961d3b921a143959',NULL,NULL,NULL,NULL);
INSERT INTO "batch_rows" VALUES('53f600d43eb743f1afd40b55a7623080',2,'matrix.png','5df1ea2544544926a476be97bd4adbaa',NULL,NULL,NULL,NULL);
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
INSERT INTO "batches" VALUES('f75e60e6f5304dcd87f22506ccf12e44','in','shots','list.csv','list','table','claimed','archive',NULL,NULL,3,1,'2026-11-29T02:57:59.362149Z',NULL);
INSERT INTO "batches" VALUES('53f600d43eb743f1afd40b55a7623080','in','','matrix.png','matrix','matrix','claimed','archive',NULL,NULL,2,0,'2026-11-29T02:58:19.061576Z',NULL);
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
INSERT INTO "drops" VALUES('0094a6d54a034db4bfe1e3e34262c857','in','gone','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F3030393461366435346130333464623462666531653365333432363263383537',X'7075626C69736865642E706E67',NULL,'{"published.png": {"size": 162, "mtime_ns": 1795921060138116825, "ctime_ns": 1795921060138116825, "inode": 2246372, "device": 65024}}',NULL,'a62a317cce72aaf25f1a2a7bb117fad0bf6500413eceefb7e94bde163603cb64',162,64,64,NULL,'2026-11-29T02:57:42.119269Z',NULL);
INSERT INTO "drops" VALUES('0f2095802b1a4abbaa7da88178dcbb8c','in','gone','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F3066323039353830326231613461626261613764613838313738646362623863',X'77726F6E672E706E67',X'77726F6E672E79616D6C','{"wrong.yaml": {"size": 9, "mtime_ns": 1795921060138597651, "ctime_ns": 1795921060138597651, "inode": 2246459, "device": 65024}, "wrong.png": {"size": 159, "mtime_ns": 1795921060138530572, "ctime_ns": 1795921060138530572, "inode": 2246458, "device": 65024}}',NULL,'3b7760950928effe48189e2892560694a5cb9ab138115e1b49d08b78fedd710c',159,64,64,'stepz: 3
','2026-11-29T02:57:42.119372Z',NULL);
INSERT INTO "drops" VALUES('fde4a45351a14a7aa35d579d603e4354','kept','gone','keep',X'',X'@ROOT_HEX@2F646174612F636C61696D732F6664653461343533353161313461376161333564353739643630336534333534',X'6B6570745F646F6E652E706E67',NULL,'{"kept_done.png": {"size": 161, "mtime_ns": 1795921060138871151, "ctime_ns": 1795921060138871151, "inode": 2246460, "device": 65024}}',NULL,'1d6971b4ba7df4f20ee75c9c664131733fee39a578ecfac7f68da717f0bd7faf',161,64,64,NULL,'2026-11-29T02:57:42.273710Z',NULL);
INSERT INTO "drops" VALUES('1151173001744c618757f65cf9d9c716','in','gone','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F3131353131373330303137343463363138373537663635636639643963373136',X'62726F6B656E2E706E67',NULL,'{"broken.png": {"size": 10, "mtime_ns": 1795921060138209161, "ctime_ns": 1795921060138209161, "inode": 2246402, "device": 65024}}','{"code": "image_unreadable", "message": "The file cannot be read as an image; export it again and drop it anew.", "detail": "it is plain text, not an image that can be read: drop the image itself", "hint": "", "retryable": false}','9ed97c950c330a5b556b00fe9d46390594f0a34437886edd034c323444fbd7d8',10,NULL,NULL,NULL,'2026-11-29T02:57:50.593797Z',NULL);
INSERT INTO "drops" VALUES('1d752859e0dd401d9de06859f16d6b0b','in','gone','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F3164373532383539653064643430316439646530363835396631366436623062',X'63616E63656C6C65642E706E67',NULL,'{"cancelled.png": {"size": 162, "mtime_ns": 1795921074070382587, "ctime_ns": 1795921074070382587, "inode": 2245848, "device": 65024}}',NULL,'3cac60990e7a90bcf6714979ab105c3db6425ead3ee0896205c5f47d5fdf1d18',162,64,64,NULL,'2026-11-29T02:57:56.368558Z',NULL);
INSERT INTO "drops" VALUES('f75e60e6f5304dcd87f22506ccf12e44','in','claimed','archive',X'73686F7473',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F6637356536306536663533303464636438376632323530366363663132653434',NULL,NULL,'{"shots/list.csv": {"size": 48, "mtime_ns": 1795921076903934609, "ctime_ns": 1795921076903934609, "inode": 2246463, "device": 65024}}',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:57:59.362183Z','f75e60e6f5304dcd87f22506ccf12e44');
INSERT INTO "drops" VALUES('9bdac5d7fb7c4fd584d97c0f0c69687f','in','claimed','archive',X'73686F7473',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F3962646163356437666237633466643538346439376330663063363936383766',X'612E706E67',NULL,'{"shots/a.png": {"size": 162, "mtime_ns": 1795921076903494970, "ctime_ns": 1795921076903494970, "inode": 2246262, "device": 65024}}',NULL,'290e744a85ffd53bdab68924167502b75b6134ba5ca4d79e0beef046f5d79eca',162,64,64,NULL,'2026-11-29T02:57:59.362270Z','f75e60e6f5304dcd87f22506ccf12e44');
INSERT INTO "drops" VALUES('1e5e18cf42284bf5bab5fc8ba04daca6','in','claimed','archive',X'73686F7473',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F3165356531386366343232383462663562616235666338626130346461636136',X'622E706E67',NULL,'{"shots/b.png": {"size": 162, "mtime_ns": 1795921076903863723, "ctime_ns": 1795921076903863723, "inode": 2246462, "device": 65024}}',NULL,'e02b5a440b9692d3309777fc58135b3d4b908395d22dfc3f02a560dd62226711',162,64,64,NULL,'2026-11-29T02:57:59.362302Z','f75e60e6f5304dcd87f22506ccf12e44');
INSERT INTO "drops" VALUES('b434a59477d4444d8acf3468631a0617','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F6234333461353934373764343434346438616366333436383633316130363137',X'6D61747269782E706E67',X'6D61747269782E706E672E79616D6C','{"matrix.png.yaml": {"size": 62, "mtime_ns": 1795921097202711313, "ctime_ns": 1795921097202711313, "inode": 2245827, "device": 65024}, "matrix.png": {"size": 161, "mtime_ns": 1795921097202622573, "ctime_ns": 1795921097202622573, "inode": 2245581, "device": 65024}}',NULL,'adaee164cca7309292a96e8193e9f9a9ca36e83b369425ba2f2db8aadba3c4d5',161,64,64,'matrix:
  remove_background.force: [true, false]
priority: -5
','2026-11-29T02:58:19.000088Z',NULL);
INSERT INTO "drops" VALUES('dc7e0fe2c13442528afb4cdbe44b7bb0','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F6463376530666532633133343432353238616662346364626534346237626230',X'72756E6E696E672E706E67',X'72756E6E696E672E706E672E79616D6C','{"running.png.yaml": {"size": 13, "mtime_ns": 1795921099252937431, "ctime_ns": 1795921099252937431, "inode": 2245990, "device": 65024}, "running.png": {"size": 163, "mtime_ns": 1795921099252845994, "ctime_ns": 1795921099252845994, "inode": 2245969, "device": 65024}}',NULL,'0d3cabf0991b5425a044692644cab8d23d5753b82f893a09b06bae47dd15e924',163,64,64,'priority: 90
','2026-11-29T02:58:21.933569Z',NULL);
INSERT INTO "drops" VALUES('e6cb5ef1992a46eabad0c53a60c6bf81','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F6536636235656631393932613436656162616430633533613630633662663831',X'746F5F63616E63656C2E706E67',X'746F5F63616E63656C2E706E672E79616D6C','{"to_cancel.png.yaml": {"size": 13, "mtime_ns": 1795921102172529096, "ctime_ns": 1795921102172529096, "inode": 2245872, "device": 65024}, "to_cancel.png": {"size": 163, "mtime_ns": 1795921102171435371, "ctime_ns": 1795921102171435371, "inode": 2245852, "device": 65024}}',NULL,'d1da5e22cff81893a397789bc2132438f19fb3bea6718a839e1c4a3999d8517f',163,64,64,'priority: 90
','2026-11-29T02:58:23.980582Z',NULL);
INSERT INTO "drops" VALUES('f373ba1f3cec405cb1d7cecd82b9b8b7','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F6633373362613166336365633430356362316437636563643832623962386237',X'72657472795F776169742E706E67',X'72657472795F776169742E706E672E79616D6C','{"retry_wait.png.yaml": {"size": 13, "mtime_ns": 1795921104296112551, "ctime_ns": 1795921104296112551, "inode": 2245942, "device": 65024}, "retry_wait.png": {"size": 163, "mtime_ns": 1795921104296024056, "ctime_ns": 1795921104296024056, "inode": 2245878, "device": 65024}}',NULL,'6709ad8cdfce1ed2c1c03659c9a7299666add019a1b5af3422ff887716c97b2c',163,64,64,'priority: 90
','2026-11-29T02:58:26.204564Z',NULL);
INSERT INTO "drops" VALUES('ce15f5a26f0d4e12ab63100e6286b47b','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F6365313566356132366630643465313261623633313030653632383662343762',X'636F6D70757465642E706E67',X'636F6D70757465642E706E672E79616D6C','{"computed.png.yaml": {"size": 13, "mtime_ns": 1795921106585371087, "ctime_ns": 1795921106585371087, "inode": 2246265, "device": 65024}, "computed.png": {"size": 164, "mtime_ns": 1795921106585189139, "ctime_ns": 1795921106585189139, "inode": 2245853, "device": 65024}}',NULL,'227a1b81e26a1ef15847768f4da054ff2c4aae2a3d9972531314a4b9ffd9e0c6',164,64,64,'priority: 90
','2026-11-29T02:58:28.830436Z',NULL);
INSERT INTO "drops" VALUES('3751d5c788a2485a81fce5afded06d80','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F3337353164356337383861323438356138316663653561666465643036643830',X'706C616E6E65642E706E67',X'706C616E6E65642E706E672E79616D6C','{"planned.png.yaml": {"size": 13, "mtime_ns": 1795921109175470454, "ctime_ns": 1795921109175470454, "inode": 2246368, "device": 65024}, "planned.png": {"size": 164, "mtime_ns": 1795921109175360279, "ctime_ns": 1795921109175360279, "inode": 2246266, "device": 65024}}',NULL,'8cc107901b791e9b7a8c4f51d1e4f8fad618e21444f7880bd1e7816222ee6ec0',164,64,64,'priority: 90
','2026-11-29T02:58:31.132399Z',NULL);
INSERT INTO "drops" VALUES('245f251b23024ae8afe1de291bc608f9','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F3234356632353162323330323461653861666531646532393162633630386639',X'7075626C6973685F68656C642E706E67',X'7075626C6973685F68656C642E706E672E79616D6C','{"publish_held.png.yaml": {"size": 13, "mtime_ns": 1795921111470522560, "ctime_ns": 1795921111470522560, "inode": 2245944, "device": 65024}, "publish_held.png": {"size": 164, "mtime_ns": 1795921111470447134, "ctime_ns": 1795921111470447134, "inode": 2245854, "device": 65024}}',NULL,'1c474f997d9a4911cee622c57087797c85db174cab9f9327608722849e635325',164,64,64,'priority: 90
','2026-11-29T02:58:33.104521Z',NULL);
INSERT INTO "drops" VALUES('7b2ecb865ceb4c9da578c42a4977b327','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F3762326563623836356365623463396461353738633432613439373762333237',X'6661696C65645F756E7075626C69736865642E706E67',X'6661696C65645F756E7075626C69736865642E706E672E79616D6C','{"failed_unpublished.png.yaml": {"size": 13, "mtime_ns": 1795921113666787971, "ctime_ns": 1795921113666787971, "inode": 2245977, "device": 65024}, "failed_unpublished.png": {"size": 164, "mtime_ns": 1795921113665790989, "ctime_ns": 1795921113665790989, "inode": 2245954, "device": 65024}}',NULL,'32a802cff6a10d0a1952c13c5b02c5f7e83c2af862e27204780cd0f45c51da83',164,64,64,'priority: 90
','2026-11-29T02:58:35.908696Z',NULL);
INSERT INTO "drops" VALUES('97ab8f21d0ee42009b4ff2898b4cb764','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F3937616238663231643065653432303039623466663238393862346362373634',X'696E7465727275707465642E706E67',X'696E7465727275707465642E706E672E79616D6C','{"interrupted.png.yaml": {"size": 13, "mtime_ns": 1795921116301280292, "ctime_ns": 1795921116301280292, "inode": 2245993, "device": 65024}, "interrupted.png": {"size": 164, "mtime_ns": 1795921116301174940, "ctime_ns": 1795921116301174940, "inode": 2245855, "device": 65024}}',NULL,'f5c03ad117b86a41e5ca7f5e4ab257698e9cdc1b9c81aedb3f23b714fd7f53c8',164,64,64,'priority: 90
','2026-11-29T02:58:38.188379Z',NULL);
INSERT INTO "drops" VALUES('020361d1edd544aaa6142388435a7399','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F3032303336316431656464353434616161363134323338383433356137333939',X'6465766963652E706E67',X'6465766963652E706E672E79616D6C','{"device.png.yaml": {"size": 12, "mtime_ns": 1795921118408493399, "ctime_ns": 1795921118408493399, "inode": 2245927, "device": 65024}, "device.png": {"size": 164, "mtime_ns": 1795921118407436337, "ctime_ns": 1795921118407436337, "inode": 2245875, "device": 65024}}',NULL,'df3bbfe96b67b7eba797dfe6357b6f3f791d59d5650cae6eab5a0307c4cf8a28',164,64,64,'priority: 0
','2026-11-29T02:58:40.268604Z',NULL);
INSERT INTO "drops" VALUES('f273196a5a154a00b6e2472a52ecf729','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F6632373331393661356131353461303062366532343732613532656366373239',X'776569676874732E706E67',X'776569676874732E706E672E79616D6C','{"weights.png.yaml": {"size": 16, "mtime_ns": 1795921120513934445, "ctime_ns": 1795921120513934445, "inode": 2246003, "device": 65024}, "weights.png": {"size": 164, "mtime_ns": 1795921120513831004, "ctime_ns": 1795921120513831004, "inode": 2245856, "device": 65024}}',NULL,'da57f9ca9530cac23af30b5187493368956955bbe91f1dadf0ab4f8b423f1e66',164,64,64,'pipeline: paint
','2026-11-29T02:58:42.480488Z',NULL);
INSERT INTO "drops" VALUES('fe7702903c684567adee748574263b4c','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F6665373730323930336336383435363761646565373438353734323633623463',X'6469736B2E706E67',X'6469736B2E706E672E79616D6C','{"disk.png.yaml": {"size": 12, "mtime_ns": 1795921122745106016, "ctime_ns": 1795921122745106016, "inode": 2246035, "device": 65024}, "disk.png": {"size": 164, "mtime_ns": 1795921122744996366, "ctime_ns": 1795921122744996366, "inode": 2246018, "device": 65024}}',NULL,'a235d590a37b79bd55d6c68a13cb873390b25283650b8b9fe8a01439359c3b45',164,64,64,'priority: 0
','2026-11-29T02:58:44.568496Z',NULL);
INSERT INTO "drops" VALUES('07efd8f674814582acfa88cd35383e11','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F3037656664386636373438313435383261636661383863643335333833653131',X'617761792E706E67',X'617761792E706E672E79616D6C','{"away.png.yaml": {"size": 12, "mtime_ns": 1795921124779956562, "ctime_ns": 1795921124779956562, "inode": 2246049, "device": 65024}, "away.png": {"size": 164, "mtime_ns": 1795921124779872908, "ctime_ns": 1795921124779872908, "inode": 2245978, "device": 65024}}',NULL,'e00b5d46207ebef8cc9f87e8a1b2d27a5f785bb877113d9a589b7453d7e9eac3',164,64,64,'priority: 0
','2026-11-29T02:58:46.449061Z',NULL);
INSERT INTO "drops" VALUES('2383514293cd46b49d671dfe772feb30','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F3233383335313432393363643436623439643637316466653737326665623330',X'7061757365642E706E67',X'7061757365642E706E672E79616D6C','{"paused.png.yaml": {"size": 16, "mtime_ns": 1795921126912629058, "ctime_ns": 1795921126912629058, "inode": 2245936, "device": 65024}, "paused.png": {"size": 164, "mtime_ns": 1795921126911436842, "ctime_ns": 1795921126911436842, "inode": 2245880, "device": 65024}}',NULL,'fd67937639c66292de1809bd6aab81d3d9fd9f49f5f37592f736ae42640693fb',164,64,64,'pipeline: other
','2026-11-29T02:58:48.713776Z',NULL);
INSERT INTO "drops" VALUES('aa54ae1032624a3283817ed7606d1c65','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F6161353461653130333236323461333238333831376564373630366431633635',X'6C617465722E706E67',X'6C617465722E706E672E79616D6C','{"later.png.yaml": {"size": 33, "mtime_ns": 1795921129055218154, "ctime_ns": 1795921129055218154, "inode": 2245957, "device": 65024}, "later.png": {"size": 164, "mtime_ns": 1795921129055038066, "ctime_ns": 1795921129055038066, "inode": 2245937, "device": 65024}}',NULL,'97780cd982183e2781ee36ba76ca7aca59eae08d037986c48ed2b5e552d5b7c3',164,64,64,'not_before: 2026-11-29T03:00:19Z
','2026-11-29T02:58:50.656863Z',NULL);
INSERT INTO "drops" VALUES('ab8737a7f48240fdaaf121ca6f4f5cf3','in','claimed','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F6162383733376137663438323430666461616631323163613666346635636633',X'7175657565642E706E67',NULL,'{"queued.png": {"size": 164, "mtime_ns": 1795921131157037981, "ctime_ns": 1795921131157037981, "inode": 2245991, "device": 65024}}',NULL,'08194fb123eecc068ca8a3619a4b8e2a1609992dbd7eafd89d6aa16b8986a081',164,64,64,NULL,'2026-11-29T02:58:52.918061Z',NULL);
INSERT INTO "drops" VALUES('ef6c7725c4814ac5bc5c88d82cf88f56','kept','claimed','keep',X'',X'@ROOT_HEX@2F646174612F636C61696D732F6566366337373235633438313461633562633563383864383263663838663536',X'6B6570745F7175657565642E706E67',NULL,'{"kept_queued.png": {"size": 163, "mtime_ns": 1795921131157522776, "ctime_ns": 1795921131157522776, "inode": 2245996, "device": 65024}}',NULL,'8869ad8f12a965be23adbd9c6c2bc9d7de0df4e3d2c550149e5934d3b0ffdc0c',163,64,64,NULL,'2026-11-29T02:58:52.974787Z',NULL);
INSERT INTO "drops" VALUES('ea35ee5924ce42d6808a009d06785cb5','in','claiming','archive',X'',X'@ROOT_HEX@2F696E2F2E646E612F3734306435356165353530362F6561333565653539323463653432643638303861303039643036373835636235',X'636C61696D696E672E706E67',X'636C61696D696E672E706E672E79616D6C','{"claiming.png.yaml": {"size": 17, "mtime_ns": 1795921133265771217, "ctime_ns": 1795921133265771217, "inode": 2246016, "device": 65024}, "claiming.png": {"size": 163, "mtime_ns": 1795921133265631500, "ctime_ns": 1795921133265631500, "inode": 2246004, "device": 65024}}',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:59:05.286242Z',NULL);
INSERT INTO "drops" VALUES('ac64c8c1d5d441f9b2c23441114208c1','submit','claimed','archive',X'',X'@ROOT_HEX@2F646174612F636C61696D732F6163363463386331643564343431663962326332333434313131343230386331',X'7375626D69747465642E706E67',X'7375626D69747465642E706E672E79616D6C','{}',NULL,'1586b9d970df4cf4dfa17d39180c73e84874ce997f3f20f785b9d8e90aeb378e',158,64,64,'{
  "pipeline": "cut"
}','2026-11-29T02:59:11.412584Z',NULL);
CREATE TABLE events (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	job_id TEXT NOT NULL, 
	at TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	data JSON NOT NULL
);
INSERT INTO "events" VALUES(1,'5aed08d1c3aa4a83adaf1f22eb44b1d8','2026-11-29T02:57:42.207921Z','queued','{"inbox": "in", "name": "published.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(2,'95c468d3f030459da5cb1798e8f4e79e','2026-11-29T02:57:42.207921Z','queued','{"inbox": "in", "name": "wrong.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(3,'95c468d3f030459da5cb1798e8f4e79e','2026-11-29T02:57:42.207921Z','failed','{"code": "sidecar_invalid", "detail": "line 1: unknown key ''stepz''; known here: image, images, matrix, max_failures, meta, not_before, on_duplicate, pipeline, priority, remove_background, seed, tags"}');
INSERT INTO "events" VALUES(4,'36cb1d5de34841a1806527bb8f044730','2026-11-29T02:57:42.299432Z','queued','{"inbox": "kept", "name": "kept_done.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(5,'36af439cb09942a8bec3040e21e0689e','2026-11-29T02:57:50.739098Z','queued','{"inbox": "in", "name": "broken.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(6,'36af439cb09942a8bec3040e21e0689e','2026-11-29T02:57:50.739098Z','failed','{"code": "image_unreadable", "detail": "it is plain text, not an image that can be read: drop the image itself"}');
INSERT INTO "events" VALUES(7,'5aed08d1c3aa4a83adaf1f22eb44b1d8','2026-11-29T02:57:52.459304Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(8,'36cb1d5de34841a1806527bb8f044730','2026-11-29T02:57:52.633694Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(9,'5aed08d1c3aa4a83adaf1f22eb44b1d8','2026-11-29T02:57:53.093474Z','completed','{}');
INSERT INTO "events" VALUES(10,'36cb1d5de34841a1806527bb8f044730','2026-11-29T02:57:53.545811Z','completed','{}');
INSERT INTO "events" VALUES(11,'c5ee790593f440fabf08d758849d2c0a','2026-11-29T02:57:56.483050Z','queued','{"inbox": "in", "name": "cancelled.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(12,'c5ee790593f440fabf08d758849d2c0a','2026-11-29T02:57:56.643731Z','cancelled','{"code": "cancelled", "detail": "cancelled before it started"}');
INSERT INTO "events" VALUES(13,'aa30f4bb56f94616b4bf1506a9a722f6','2026-11-29T02:57:59.826137Z','queued','{"inbox": "in", "name": "a.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(14,'87019887aa6643c2b0020dfd657caefb','2026-11-29T02:57:59.826137Z','queued','{"inbox": "in", "name": "b.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(15,'aa30f4bb56f94616b4bf1506a9a722f6','2026-11-29T02:58:17.042500Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(16,'aa30f4bb56f94616b4bf1506a9a722f6','2026-11-29T02:58:17.179325Z','completed','{}');
INSERT INTO "events" VALUES(17,'3b8fe37cd86e449f961d3b921a143959','2026-11-29T02:58:19.063219Z','queued','{"inbox": "in", "name": "matrix.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(18,'5df1ea2544544926a476be97bd4adbaa','2026-11-29T02:58:19.063219Z','queued','{"inbox": "in", "name": "matrix.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(19,'c5f44699fc5e4b59bbe214e68c464702','2026-11-29T02:58:22.072511Z','queued','{"inbox": "in", "name": "running.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(20,'c5f44699fc5e4b59bbe214e68c464702','2026-11-29T02:58:22.161771Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(21,'088567bfaa2744b9bfa1c5d03e4fdeca','2026-11-29T02:58:24.078512Z','queued','{"inbox": "in", "name": "to_cancel.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(22,'088567bfaa2744b9bfa1c5d03e4fdeca','2026-11-29T02:58:24.265285Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(23,'d5193af3d4ab4281aaa81c8049dd6d10','2026-11-29T02:58:26.348666Z','queued','{"inbox": "in", "name": "retry_wait.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(24,'d5193af3d4ab4281aaa81c8049dd6d10','2026-11-29T02:58:26.441561Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(25,'a2a60dee4ad748fd92e6595deb225ade','2026-11-29T02:58:28.882858Z','queued','{"inbox": "in", "name": "computed.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(26,'a2a60dee4ad748fd92e6595deb225ade','2026-11-29T02:58:28.987742Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(27,'d08bcf0cdba748a5b794e8a9e736ddf3','2026-11-29T02:58:31.250085Z','queued','{"inbox": "in", "name": "planned.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(28,'d08bcf0cdba748a5b794e8a9e736ddf3','2026-11-29T02:58:31.371565Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(29,'5692e39a8de74b588c1b7df2d3c43755','2026-11-29T02:58:33.167081Z','queued','{"inbox": "in", "name": "publish_held.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(30,'5692e39a8de74b588c1b7df2d3c43755','2026-11-29T02:58:33.533283Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(31,'37f1c0a746ba4a638aca59cf29c13e55','2026-11-29T02:58:36.050953Z','queued','{"inbox": "in", "name": "failed_unpublished.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(32,'37f1c0a746ba4a638aca59cf29c13e55','2026-11-29T02:58:36.193711Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(33,'37f1c0a746ba4a638aca59cf29c13e55','2026-11-29T02:58:36.250576Z','failed','{"code": "stage_failed", "detail": "broke"}');
INSERT INTO "events" VALUES(34,'3a05db32d658499ea63d974a65bd6628','2026-11-29T02:58:38.266645Z','queued','{"inbox": "in", "name": "interrupted.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(35,'3a05db32d658499ea63d974a65bd6628','2026-11-29T02:58:38.368576Z','started','{"attempt": 1}');
INSERT INTO "events" VALUES(36,'bb66581c06ae480e91d19418f5a68458','2026-11-29T02:58:40.346370Z','queued','{"inbox": "in", "name": "device.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(37,'204b957a98454d7c891e43e9dfcdde9e','2026-11-29T02:58:42.625526Z','queued','{"inbox": "in", "name": "weights.png", "pipeline": "paint"}');
INSERT INTO "events" VALUES(38,'63041f2abc83452f86357c94797d3f1c','2026-11-29T02:58:44.593460Z','queued','{"inbox": "in", "name": "disk.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(39,'58769a0674c54ca1b6e45abefebcd205','2026-11-29T02:58:46.559599Z','queued','{"inbox": "in", "name": "away.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(40,'185188c2b52b44d1910802606ac5c35b','2026-11-29T02:58:48.751411Z','queued','{"inbox": "in", "name": "paused.png", "pipeline": "other"}');
INSERT INTO "events" VALUES(41,'7bc51559a5d9478582e391b68cf9f09a','2026-11-29T02:58:50.690907Z','queued','{"inbox": "in", "name": "later.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(42,'8eaeeb80a6e14773a1692f257c8a00eb','2026-11-29T02:58:52.947516Z','queued','{"inbox": "in", "name": "queued.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(43,'9ae87e1c1598493bb34c2e5a4d92d9ce','2026-11-29T02:58:53.030283Z','queued','{"inbox": "kept", "name": "kept_queued.png", "pipeline": "cut"}');
INSERT INTO "events" VALUES(44,'021f49de5c94418692026a13c4e328b2','2026-11-29T02:59:12.509726Z','queued','{"inbox": "submit", "name": "submitted.png", "pipeline": "cut"}');
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
	finished_at TEXT, "key" TEXT, request TEXT, cancelled_while TEXT, original_place TEXT, 
	PRIMARY KEY (seq), 
	FOREIGN KEY(drop_id) REFERENCES drops (id), 
	UNIQUE (id)
);
INSERT INTO "jobs" VALUES(1,'5aed08d1c3aa4a83adaf1f22eb44b1d8','0094a6d54a034db4bfe1e3e34262c857',NULL,'in','','published.png','published','cut',0,'completed',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,0,NULL,NULL,'done','in/published-5aed08d1','6d1dc7dae2c00ca325fc0f7b3c3ea6e5922d000ca1fc0d2f6b89b2b8f67224ae','2026-11-29T02:57:42.173317Z','2026-11-29T02:57:52.392481Z','2026-11-29T02:57:52.589212Z',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(2,'95c468d3f030459da5cb1798e8f4e79e','0f2095802b1a4abbaa7da88178dcbb8c',NULL,'in','','wrong.png','wrong','cut',0,'failed',NULL,NULL,NULL,'[]','','[]','{}',0,0,0,0,NULL,'{"code": "sidecar_invalid", "message": "The YAML beside the image cannot be used as it is; correct it and retry the job.", "detail": "line 1: unknown key ''stepz''; known here: image, images, matrix, max_failures, meta, not_before, on_duplicate, pipeline, priority, remove_background, seed, tags", "hint": "", "retryable": false}','done','in/failed/wrong-95c468d3','c567f291bc8a9be96b8e65f2cbb185e617dfa3232c4ec74cbdeecee8f90b5522','2026-11-29T02:57:42.174188Z',NULL,'2026-11-29T02:57:42.174249Z',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(3,'36cb1d5de34841a1806527bb8f044730','fde4a45351a14a7aa35d579d603e4354',NULL,'kept','','kept_done.png','kept_done','cut',0,'completed',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,0,NULL,NULL,'done','kept/kept_done-36cb1d5d','6028eae0ffb96bd9921eb35aeb86063e383f657bab80d644022ac061117ecacb','2026-11-29T02:57:42.297121Z','2026-11-29T02:57:52.632627Z','2026-11-29T02:57:52.685854Z',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(4,'36af439cb09942a8bec3040e21e0689e','1151173001744c618757f65cf9d9c716',NULL,'in','','broken.png','broken','cut',0,'failed',NULL,NULL,NULL,'[]','','[]','{}',0,0,0,0,NULL,'{"code": "image_unreadable", "message": "The file cannot be read as an image; export it again and drop it anew.", "detail": "it is plain text, not an image that can be read: drop the image itself", "hint": "", "retryable": false}','done','in/failed/broken-36af439c','d71c930b247e9e0d8abe2f65abd42b4fe4cb366f8d7161a0e0de8dfa77253588','2026-11-29T02:57:50.737737Z',NULL,'2026-11-29T02:57:50.737819Z',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(5,'c5ee790593f440fabf08d758849d2c0a','1d752859e0dd401d9de06859f16d6b0b',NULL,'in','','cancelled.png','cancelled','cut',0,'cancelled',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,'{"code": "cancelled", "message": "The job was cancelled; `dna-pipeline retry` runs it again.", "detail": "cancelled before it started", "hint": "", "retryable": true}','done','in/cancelled/cancelled-c5ee7905','565845e1d92bbb2f98f1509d96270f739f21b7b44d4d9397b0f7940cd944ea0c','2026-11-29T02:57:56.481317Z',NULL,'2026-11-29T02:57:56.641078Z',NULL,NULL,'waiting',NULL);
INSERT INTO "jobs" VALUES(6,'aa30f4bb56f94616b4bf1506a9a722f6','9bdac5d7fb7c4fd584d97c0f0c69687f','f75e60e6f5304dcd87f22506ccf12e44','in','shots','a.png','a','cut',50,'completed',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,0,NULL,NULL,'done','in/shots/list-f75e60e6/a-aa30f4bb','9d001be083ac201f195d05e54aaf164beb6e9357d68fbceb5c41f4a6e6981f8a','2026-11-29T02:57:59.609134Z','2026-11-29T02:58:16.980097Z','2026-11-29T02:58:17.072302Z','7feac7ae3d62551f69386c6231738a6a9173ef881a132a7629ca3fc5f68a1a6f','{
  "priority": 50
}
',NULL,NULL);
INSERT INTO "jobs" VALUES(7,'87019887aa6643c2b0020dfd657caefb','1e5e18cf42284bf5bab5fc8ba04daca6','f75e60e6f5304dcd87f22506ccf12e44','in','shots','b.png','b','cut',1,'queued',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:57:59.609497Z',NULL,NULL,'73bbe9a13ba2df22d3161840400db92b47c29899ba1597e2e01a7b7afd455448','{
  "priority": 1
}
',NULL,NULL);
INSERT INTO "jobs" VALUES(8,'3b8fe37cd86e449f961d3b921a143959','b434a59477d4444d8acf3468631a0617','53f600d43eb743f1afd40b55a7623080','in','','matrix.png','matrix','cut',-5,'queued',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": true, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:58:19.061505Z',NULL,NULL,NULL,'{
  "priority": -5,
  "remove_background": {
    "force": true
  }
}
',NULL,NULL);
INSERT INTO "jobs" VALUES(9,'5df1ea2544544926a476be97bd4adbaa','b434a59477d4444d8acf3468631a0617','53f600d43eb743f1afd40b55a7623080','in','','matrix.png','matrix','cut',-5,'queued',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:58:19.061553Z',NULL,NULL,NULL,'{
  "priority": -5,
  "remove_background": {
    "force": false
  }
}
',NULL,NULL);
INSERT INTO "jobs" VALUES(10,'c5f44699fc5e4b59bbe214e68c464702','dc7e0fe2c13442528afb4cdbe44b7bb0',NULL,'in','','running.png','running','cut',90,'running',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:58:22.063126Z','2026-11-29T02:58:22.160507Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(11,'088567bfaa2744b9bfa1c5d03e4fdeca','e6cb5ef1992a46eabad0c53a60c6bf81',NULL,'in','','to_cancel.png','to_cancel','cut',90,'running',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,1,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:58:24.077343Z','2026-11-29T02:58:24.264376Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(12,'d5193af3d4ab4281aaa81c8049dd6d10','f373ba1f3cec405cb1d7cecd82b9b8b7',NULL,'in','','retry_wait.png','retry_wait','cut',90,'queued','retry_wait','its worker ended 1 times; the next try is at 02:58:28','2026-11-29T02:58:28.559946Z','[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,1,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:58:26.338530Z','2026-11-29T02:58:26.440452Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(13,'a2a60dee4ad748fd92e6595deb225ade','ce15f5a26f0d4e12ab63100e6286b47b',NULL,'in','','computed.png','computed','cut',90,'running',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,0,NULL,NULL,'pending',NULL,NULL,'2026-11-29T02:58:28.881754Z','2026-11-29T02:58:28.986816Z','2026-11-29T02:58:29.137687Z',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(14,'d08bcf0cdba748a5b794e8a9e736ddf3','3751d5c788a2485a81fce5afded06d80',NULL,'in','','planned.png','planned','cut',90,'running',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,0,NULL,NULL,'planned','in/planned-d08bcf0c','12f45d60f420594913cf02c8975e5295430fac69a3d158f32ef56f92bd4e6254','2026-11-29T02:58:31.248962Z','2026-11-29T02:58:31.370671Z','2026-11-29T02:58:31.395265Z',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(15,'5692e39a8de74b588c1b7df2d3c43755','245f251b23024ae8afe1de291bc608f9',NULL,'in','','publish_held.png','publish_held','cut',90,'running','outbox_unavailable','the outbox is away',NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,0,NULL,NULL,'pending',NULL,NULL,'2026-11-29T02:58:33.165271Z','2026-11-29T02:58:33.532139Z','2026-11-29T02:58:33.597892Z',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(16,'37f1c0a746ba4a638aca59cf29c13e55','7b2ecb865ceb4c9da578c42a4977b327',NULL,'in','','failed_unpublished.png','failed_unpublished','cut',90,'failed',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',1,0,0,0,'remove_background','{"code": "stage_failed", "message": "A stage failed in a way that was not foreseen; see the detail and the log, then mend the cause and retry the job.", "detail": "broke", "hint": "", "retryable": false}','pending',NULL,NULL,'2026-11-29T02:58:36.049241Z','2026-11-29T02:58:36.192692Z','2026-11-29T02:58:36.248301Z',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(17,'3a05db32d658499ea63d974a65bd6628','97ab8f21d0ee42009b4ff2898b4cb764',NULL,'in','','interrupted.png','interrupted','cut',90,'queued',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:58:38.265465Z','2026-11-29T02:58:38.367665Z',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(18,'bb66581c06ae480e91d19418f5a68458','020361d1edd544aaa6142388435a7399',NULL,'in','','device.png','device','cut',0,'queued','device_unavailable','held as device_unavailable',NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:58:40.345162Z',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(19,'204b957a98454d7c891e43e9dfcdde9e','f273196a5a154a00b6e2472a52ecf729',NULL,'in','','weights.png','weights','paint',0,'queued','weights_missing','held as weights_missing',NULL,'[{"id": "img2img", "type": "img2img", "params": {"model": "sd", "prompt": "a weights", "negative_prompt": "", "seed": 42, "steps": 20, "guidance_scale": 7.5, "strength": 0.75, "sampler": "euler", "schedule": "normal", "max_size": 768, "alpha": "keep"}}]','sd','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:58:42.621194Z',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(20,'63041f2abc83452f86357c94797d3f1c','fe7702903c684567adee748574263b4c',NULL,'in','','disk.png','disk','cut',0,'queued','disk_full','held as disk_full',NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:58:44.591965Z',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(21,'58769a0674c54ca1b6e45abefebcd205','07efd8f674814582acfa88cd35383e11',NULL,'in','','away.png','away','cut',0,'queued','inbox_unavailable','held as inbox_unavailable',NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:58:46.557638Z',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(22,'185188c2b52b44d1910802606ac5c35b','2383514293cd46b49d671dfe772feb30',NULL,'in','','paused.png','paused','other',0,'queued','paused','held as paused',NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:58:48.749408Z',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(23,'7bc51559a5d9478582e391b68cf9f09a','aa54ae1032624a3283817ed7606d1c65',NULL,'in','','later.png','later','cut',0,'queued','not_before','starts at 2026-11-29 03:00','2026-11-29T03:00:19.000000Z','[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:58:50.689031Z',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(24,'8eaeeb80a6e14773a1692f257c8a00eb','ab8737a7f48240fdaaf121ca6f4f5cf3',NULL,'in','','queued.png','queued','cut',0,'queued',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:58:52.945797Z',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(25,'9ae87e1c1598493bb34c2e5a4d92d9ce','ef6c7725c4814ac5bc5c88d82cf88f56',NULL,'kept','','kept_queued.png','kept_queued','cut',0,'queued',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:58:53.028680Z',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(26,'021f49de5c94418692026a13c4e328b2','ac64c8c1d5d441f9b2c23441114208c1',NULL,'submit','','submitted.png','submitted','cut',0,'queued',NULL,NULL,NULL,'[{"id": "remove_background", "type": "remove_background", "params": {"model": "key", "force": false, "alpha_matting": false}}]','key','[]','{}',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-29T02:59:12.411155Z',NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE known_files (
	inbox TEXT NOT NULL, 
	path BLOB NOT NULL, 
	stat JSON NOT NULL, 
	"key" TEXT NOT NULL, 
	error TEXT, 
	drop_id TEXT, 
	PRIMARY KEY (inbox, path)
);
INSERT INTO "known_files" VALUES('kept',X'6B6570745F646F6E652E706E67','{"kept_done.png": {"size": 161, "mtime_ns": 1795921060138871151, "ctime_ns": 1795921060138871151, "inode": 2246460, "device": 65024}}','17c8927c449deb3825612f5e69e3c0b05449eb7e98c68770773cb1b57a802768',NULL,'fde4a45351a14a7aa35d579d603e4354');
INSERT INTO "known_files" VALUES('kept',X'6B6570745F7175657565642E706E67','{"kept_queued.png": {"size": 163, "mtime_ns": 1795921131157522776, "ctime_ns": 1795921131157522776, "inode": 2245996, "device": 65024}}','228b962a93d967871475b3585dca26e143635169eb7cb8d45b04c3bb46de9afb',NULL,'ef6c7725c4814ac5bc5c88d82cf88f56');
CREATE TABLE settings (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "settings" VALUES('ledger_id','740d55ae5506');
INSERT INTO "settings" VALUES('watched:in','2026-11-29 02:57:40.428836+00:00');
INSERT INTO "settings" VALUES('watched:kept','2026-11-29 02:57:40.448665+00:00');
INSERT INTO "settings" VALUES('latest:kept/latest/kept_done','{"source": "kept_done.png", "seq": 3, "files": ["kept/latest/kept_done.png"]}');
INSERT INTO "settings" VALUES('dialect:f75e60e6f5304dcd87f22506ccf12e44','{"delimiter": ",", "newline": "\n", "has_mark": false, "has_sep": false, "decimal": "."}');
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
	finished_at TEXT NOT NULL, stage_key TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(job_id) REFERENCES jobs (id)
);
INSERT INTO "stage_runs" VALUES(1,'5aed08d1c3aa4a83adaf1f22eb44b1d8','remove_background','remove_background','border_key',NULL,'{"force": false, "model": "key"}','cpu','float32',1,1,0.5,'[]','{"python": "3"}','2026-11-29T02:57:52.491232Z',NULL);
INSERT INTO "stage_runs" VALUES(2,'36cb1d5de34841a1806527bb8f044730','remove_background','remove_background','border_key',NULL,'{"force": false, "model": "key"}','cpu','float32',1,1,0.5,'[]','{"python": "3"}','2026-11-29T02:57:52.639793Z',NULL);
INSERT INTO "stage_runs" VALUES(3,'aa30f4bb56f94616b4bf1506a9a722f6','remove_background','remove_background','border_key',NULL,'{"force": false, "model": "key"}','cpu','float32',1,1,0.5,'[]','{"python": "3"}','2026-11-29T02:58:17.051114Z',NULL);
INSERT INTO "stage_runs" VALUES(4,'a2a60dee4ad748fd92e6595deb225ade','remove_background','remove_background','border_key',NULL,'{"force": false, "model": "key"}','cpu','float32',1,1,0.5,'[]','{"python": "3"}','2026-11-29T02:58:29.045258Z',NULL);
INSERT INTO "stage_runs" VALUES(5,'d08bcf0cdba748a5b794e8a9e736ddf3','remove_background','remove_background','border_key',NULL,'{"force": false, "model": "key"}','cpu','float32',1,1,0.5,'[]','{"python": "3"}','2026-11-29T02:58:31.394320Z',NULL);
INSERT INTO "stage_runs" VALUES(6,'5692e39a8de74b588c1b7df2d3c43755','remove_background','remove_background','border_key',NULL,'{"force": false, "model": "key"}','cpu','float32',1,1,0.5,'[]','{"python": "3"}','2026-11-29T02:58:33.561471Z',NULL);
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