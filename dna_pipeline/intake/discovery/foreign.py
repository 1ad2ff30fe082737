"""Recognise names of files and folders that a system or a program made for itself.

Such files lie in shares and synced folders beside people's pictures, and nobody dropped them:
thumbnails of a NAS, recycle bins, snapshots, photo libraries, copies that a sync program made of
conflicting versions. All matching is by name, since over a network share only the name
distinguishes them.
"""

from __future__ import annotations

import re

from dna_pipeline.base.naming import nfc

_SYSTEM_NAMES = frozenset(
    name.lower()
    for name in (
        # Synology
        "@eaDir", "#recycle", "#snapshot", "@sharesnap", "@tmp", "@sharebin", "@SynoResource",
        "@S2S", "@img_bkp_cache", "@cloudstation", "@cloudsync", "@SynologyDrive",
        "@SynologyDriveShareSync", "@ActiveBackup", "@database",
        "@docker", "@appstore", "@iSCSI",
        # QNAP and other NAS
        "@Recycle", "@Recently-Snapshot", "@__thumb", "@__qini", "@transcode", "~snapshot",
        # Windows
        "$RECYCLE.BIN", "RECYCLER", "System Volume Information", "DfsrPrivate", "$WINDOWS.~BT",
        "$WINDOWS.~WS", "$SysReset", "$Extend", "Thumbs.db", "ehthumbs.db", "ehthumbs_vista.db",
        "desktop.ini",
        # Linux, macOS and Netatalk
        "lost+found", "__MACOSX", "Backups.backupdb", "MobileBackups.trash", "Icon\r",
        "Network Trash Folder", "Temporary Items", "TheFindByContentFolder",
        "TheVolumeSettingsFolder",
    )
)  # fmt: skip
"""In small letters. Names that begin with a dot, such as `.Trashes`, `.snapshots` and
`.stversions`, are missing here, since a scan passes over all of those."""

_PACKAGES = (
    # Photo libraries and catalogues: Photos, iPhoto, Aperture, Lightroom, Capture One
    ".photoslibrary", ".photolibrary", ".migratedphotolibrary", ".aplibrary", ".migratedaplibrary",
    ".apvault", ".lrdata", ".lrcat-data", ".lrlibrary", ".cocatalog",
    # Other libraries, documents and programs that are folders with pictures in them
    ".imovielibrary", ".fcpbundle", ".tvlibrary", ".musiclibrary", ".theater", ".rtfd", ".pages",
    ".numbers", ".key", ".app", ".sparsebundle", ".backupbundle",
)  # fmt: skip
"""Endings of folders that macOS shows as one file. Taking a picture out would damage them."""

_CHKDSK = re.compile(r"found\.\d{3}$")
"""Folders in which Windows' chkdsk puts recovered files whose names are lost."""

_THUMBNAIL = ("synofile_thumb_", "synophoto_thumb_")
"""Beginnings of the names of Synology's thumbnails, which lie in `@eaDir` and may be copied out."""


def is_system_name(name: str) -> bool:
    """True for a file or folder of this name (not path) that belongs to a system or a program."""
    folded = name.lower()
    return (
        folded in _SYSTEM_NAMES
        or folded.endswith(_PACKAGES)
        or folded.startswith(_THUMBNAIL)
        or (folded.startswith("found.") and _CHKDSK.match(folded) is not None)
    )


_CONFLICT_WORD = r"(?:conflict|conflit|konflikt|конфл[иі]кт|競合|충돌|冲突|衝突)"

_CONFLICT = re.compile(
    "|".join(
        (
            # Syncthing: cat.sync-conflict-20260101-120000-ABCDEFG.png
            r"\.(?i:sync-conflict)-\d{8}-\d{6}",
            # ownCloud and Nextcloud before 2018: cat_conflict-20160101-120000.png
            r"_(?i:conflict)-(?:.*-)?\d{8}-\d{6}",
            # Synology Drive: cat_Anna-PC_Jan-03-0901-2026_CaseConflict_1.png
            r"_\w{3}-\d\d-\d{4}-\d{4}_\w*Conflict",
            # Resilio Sync: cat.Conflict.png, cat.Conflict2.png; rclone bisync: cat.conflict1.png
            r"\.Conflict\d*(?=\.|$)",
            r"\.conflict\d+(?=\.)",
            # pCloud: cat [conflicted].png
            r"[(\[](?i:conflicted)(?: \d+)?[)\]]",
            # Dropbox and Nextcloud in English: cat (Anna's conflicted copy 2026-01-01).png
            r"[(（].*(?i:conflicted copy|case clash from"
            r"|(?:case|unicode encoding|white ?space|selective sync|shared folder) conflict)"
            r"[^()]*(?:\(\d+\))?[)）]",
            # Dropbox in other languages: cat (Copie en conflit de Anna).png
            r"[(（].*(?i:in konflikt stehende kopie|konfliktkopie|konflikt mit gro|copie en conflit"
            r"|copia en conflicto|conflicto de may|copia in conflitto|c[óo]pia em conflito"
            r"|conflicterende kopie|konfliktkopia|konfliktkopi|kopi i konflikt"
            r"|конфликтующая копия|конфліктна копія|競合コピー|충돌하는 (?:사본|복사본)|충돌 복사본"
            r"|冲突的?副本|衝突的?(?:副本|複本)).*[)）]",
            # In any language, with the date: cat (SFConflict anna@example.org 2026-01-01-11-30).png
            rf"[(（](?i:[^()（）]*{_CONFLICT_WORD}[^()（）]*)\d{{4}}-\d\d-\d\d[^()（）]*[)）]",
        )
    )
)

CONFLICT_COPY = (
    "a conflict copy that a sync program made; keep the right version, and rename this one if it "
    "should be taken in"
)
"""Reason for people why a conflict copy is not claimed."""


def is_conflict_copy(name: str) -> bool:
    """True for a name (not path) that a sync program gives to the second of two versions."""
    if name.isascii():
        folded = name.lower()
        if "onfli" not in folded and "clash" not in folded:
            return False  # Most names end here, and a scan may see a hundred thousand of them.
    return _CONFLICT.search(nfc(name)) is not None
