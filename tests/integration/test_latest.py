"""`latest/` where names made from parts of names are one: nobody's files are lost, names stay."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from dna_pipeline.operations.repair.rebuild import rebuild
from tests.integration.conftest import Site
from tests.integration.test_batches import library

MakeSite = Callable[..., Site]


@pytest.fixture
def keep(make_site: MakeSite) -> Site:
    return make_site(originals="keep", recursive=True)


def make(site: Site, name: str, data: bytes) -> None:
    """Drop an image, or a new version of it, and publish what is made of it."""
    site.put(name, data)
    site.settle()
    site.run_next(b"of " + data)


def latest(site: Site) -> dict[str, bytes]:
    home = site.outbox / "in/latest"
    return {
        path.relative_to(home).as_posix(): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
def test_two_of_one_stem_have_a_file_each_for_good(keep: Site) -> None:
    make(keep, "cat.png", b"png 1")
    make(keep, "cat.jpg", b"jpg 1")
    assert latest(keep) == {"cat.png": b"of png 1", "cat.jpg.png": b"of jpg 1"}
    keep.restart()
    make(keep, "cat.jpg", b"jpg version 2")
    make(keep, "cat.png", b"png version 2")
    make(keep, "cat.webp", b"webp 1")
    keep.restart()
    make(keep, "cat.jpg", b"jpg version 3.")
    assert latest(keep) == {
        "cat.png": b"of png version 2",
        "cat.jpg.png": b"of jpg version 3.",
        "cat.webp.png": b"of webp 1",
    }


@pytest.mark.slow
def test_a_picture_keeps_its_ending(keep: Site) -> None:
    for name, ending in (("cat.png", ".jpg"), ("dog.png", ".webp"), ("cat.jpg", ".jpg")):
        keep.put(name, name.encode())
        keep.settle()
        job = keep.claim_next()
        keep.finish(job, name.encode(), {f"{job.stem}{ending}": "image"})
        keep.publish()
    assert latest(keep) == {
        "cat.jpg": b"cat.png", "dog.webp": b"dog.png", "cat.jpg.jpg": b"cat.jpg",
    }  # fmt: skip


ALIKE = [
    ["cat.png", "cat.jpg", "cat.jpg.png", "cat.png.jpg", "cat.jpg.jpg.png"],
    ["Cat.png", "cat.png", "CAT.png", "cAT.PNG"],
    [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")],
    ["a:b/cat.png", "a_b/cat.png", "a?b/cat.png", "A_B/cat.png"],
    ["failed/cat.png", "failed_/cat.png"],
    ["a:.png", "a?.png", "a_.png"],
    ["x" * 130 + "1.png", "x" * 130 + "2.png", "x" * 130 + "3.jpg"],
    ["con.png", "_con.png"],
    ["cat.jpg", "cat.png/dog.png", "Cat.PNG/cow.png", "cat.png_/dog.png", "dog.glb/x.png"],
]


@pytest.mark.slow
@pytest.mark.parametrize("names", ALIKE, ids=[names[0][:9] for names in ALIKE])
@pytest.mark.parametrize("way", ["there", "back"])
def test_names_that_become_one(keep: Site, names: list[str], way: str) -> None:
    names = names if way == "there" else names[::-1]
    for version in ("one", "two and more"):
        for number, name in enumerate(names):
            make(keep, name, f"{version} {number}".encode())
        found = latest(keep)
        assert sorted(found.values()) == [
            f"of {version} {number}".encode() for number in range(len(names))
        ]
        assert len({path.casefold() for path in found}) == len(names)
        keep.restart()


@pytest.mark.slow
def test_a_stem_alone_is_the_whole_name(keep: Site) -> None:
    for name in ("cat.png", "dog.JPG", "my chair.png", "a.b.png", "x.texture.png"):
        make(keep, name, name.encode())
    assert set(latest(keep)) == {
        "cat.png", "dog.png", "my chair.png", "a.b.png", "x.texture.png",
    }  # fmt: skip


@pytest.mark.slow
def test_a_name_whose_files_were_removed_is_free(keep: Site) -> None:
    """But nobody who has a name gets another."""
    make(keep, "cat.png", b"png")
    make(keep, "cat.jpg", b"jpg")
    (keep.outbox / "in/latest/cat.png").unlink()
    make(keep, "cat.jpg", b"jpg 2")
    assert set(latest(keep)) == {"cat.jpg.png"}
    make(keep, "cat.webp", b"webp")
    make(keep, "cat.png", b"png 2")
    assert latest(keep) == {
        "cat.png": b"of webp", "cat.jpg.png": b"of jpg 2", "cat.png.png": b"of png 2",
    }  # fmt: skip


@pytest.mark.slow
def test_the_newest_version_of_each_wins(keep: Site) -> None:
    """Whichever ends first."""
    for name in ("cat.png", "cat.jpg"):
        keep.put(name, b"old")
    keep.settle()
    old = [keep.claim_next() for _ in range(2)]
    for name in ("cat.png", "cat.jpg"):
        make(keep, name, b"new version of " + name.encode())
    for job in old:
        keep.finish(job, b"late")
    keep.publish()
    assert set(latest(keep).values()) == {
        b"of new version of cat.png", b"of new version of cat.jpg",
    }  # fmt: skip


@pytest.mark.slow
def test_two_of_a_table_in_folders_of_a_source_root(make_site: MakeSite) -> None:
    site = make_site(source_roots=["library"], originals="keep")
    library(site, "one/cat.png", "two/cat.png")
    for version in range(2):
        site.put("shots.csv", f"image,meta.v\none/cat.png,{version}\ntwo/cat.png,{version}\n")
        site.settle()
        jobs = [site.claim_next() for _ in range(2)]
        for job in reversed(jobs):
            site.finish(job, f"{site.drop(job).sha256} {version}".encode())
        site.publish()
        found = latest(site)
        assert set(found) == {"cat.png", "cat.png.png"}
        assert len({data[:64] for data in found.values()}) == 2
        assert all(data.endswith(str(version).encode()) for data in found.values())
    assert len(site.jobs()) == 4


@pytest.mark.slow
def test_names_after_the_ledger_was_lost(keep: Site) -> None:
    make(keep, "cat.png", b"png")
    make(keep, "cat.jpg", b"jpg")
    keep.close()
    keep.config.ledger_path.unlink()
    rebuild(keep.config)
    keep.restart()
    keep.put("cat.jpg", b"jpg 2")
    keep.put("cat.png", b"png 2")
    keep.settle()
    for job in keep.jobs()[-2:]:
        keep.claim_next()
        keep.finish(job, f"of {job.name} 2".encode())
    keep.publish()
    assert latest(keep) == {"cat.png": b"of cat.png 2", "cat.jpg.png": b"of cat.jpg 2"}


# --- files that are not ours ---


def put_foreign(site: Site, *names: str) -> None:
    home = site.outbox / "in/latest"
    home.mkdir(parents=True, exist_ok=True)
    for name in names:
        (home / name).write_bytes(b"mine")


def forget_names(site: Site) -> None:
    """Make the ledger like one of version 0.1, which has no names of files in latest."""
    from sqlalchemy import delete

    from dna_pipeline.ledger.tables import Setting

    of_latest = delete(Setting).where(Setting.name.startswith("latest"))
    site.ledger.transact(lambda s: s.execute(of_latest))


@pytest.mark.slow
@pytest.mark.parametrize("foreign", ["k.png", "k.glb"])
def test_a_file_that_no_input_owns_is_not_replaced(keep: Site, foreign: str) -> None:
    put_foreign(keep, foreign)
    for version in (b"1", b"version 2"):
        make(keep, "k.png", version)
        assert latest(keep) == {foreign: b"mine", "k.png.png": b"of " + version}
        keep.restart()
    (keep.outbox / "in/latest" / foreign).unlink()
    make(keep, "k.png", b"the third version")
    assert latest(keep) == {"k.png.png": b"of the third version"}
    make(keep, "k.jpg", b"jpg")
    assert latest(keep)["k.png"] == b"of jpg"


def test_a_link_that_leads_nowhere_is_not_replaced(keep: Site) -> None:
    put_foreign(keep)
    link = keep.outbox / "in/latest/k.png"
    link.symlink_to("away.png")
    make(keep, "k.png", b"1")
    assert link.is_symlink()
    assert latest(keep) == {"k.png.png": b"of 1"}


def make_both(site: Site, data: bytes) -> None:
    """Publish a picture and a mesh of `cat.png`."""
    site.put("cat.png", data)
    site.settle()
    roles = {"cat.png": "image", "cat.glb": "mesh"}
    site.finish(site.claim_next(), b"of " + data, roles)
    site.publish()


def test_a_mesh_beside_an_input_s_picture_is_not_replaced(keep: Site) -> None:
    make(keep, "cat.png", b"1")
    put_foreign(keep, "cat.glb")
    for version in (b"version 2", b"the third version"):
        make_both(keep, version)
        of_it = b"of " + version
        assert latest(keep) == {
            "cat.png": b"of 1", "cat.glb": b"mine",
            "cat.png.png": of_it, "cat.png.glb": of_it,
        }  # fmt: skip
        keep.restart()
    make(keep, "cat.png", b"4, without a mesh")
    found = latest(keep)
    assert (found["cat.png"], found["cat.png.png"]) == (b"of 1", b"of 4, without a mesh")


def test_an_input_s_own_mesh_is_replaced(keep: Site) -> None:
    for version in (b"1", b"version 2"):
        make_both(keep, version)
        assert latest(keep) == {"cat.png": b"of " + version, "cat.glb": b"of " + version}
        make(keep, "cat.png", version + b" alone")


@pytest.mark.slow
def test_meshes_of_version_0_1_stay_with_their_input(keep: Site) -> None:
    make_both(keep, b"1")
    forget_names(keep)
    make(keep, "cat.png", b"version 2")
    make_both(keep, b"the third version")
    assert latest(keep) == dict.fromkeys(("cat.png", "cat.glb"), b"of the third version")


def test_a_mesh_under_a_name_that_became_free_is_not_replaced(keep: Site) -> None:
    make(keep, "cat.jpg", b"jpg")
    (keep.outbox / "in/latest/cat.png").unlink()
    put_foreign(keep, "cat.glb")
    make_both(keep, b"png")
    assert latest(keep) == {"cat.glb": b"mine", "cat.png.png": b"of png", "cat.png.glb": b"of png"}


def test_each_name_of_an_input_may_be_in_use(keep: Site) -> None:
    put_foreign(keep, "k.png", "k.png.png")
    make(keep, "k.png", b"1")
    found = latest(keep)
    assert (found["k.png"], found["k.png.png"]) == (b"mine", b"mine")
    assert sorted(found.values()) == [b"mine", b"mine", b"of 1"]


def test_a_file_is_not_another_job_s_because_that_waits_to_be_published(keep: Site) -> None:
    put_foreign(keep, "k.png")
    for name in ("k.png", "k.jpg"):
        keep.put(name, name.encode())
    keep.settle()
    for _ in range(2):
        job = keep.claim_next()
        keep.finish(job, b"of " + job.name.encode())
    keep.publish()
    assert latest(keep) == {
        "k.png": b"mine", "k.png.png": b"of k.png", "k.jpg.png": b"of k.jpg",
    }  # fmt: skip


@pytest.mark.slow
def test_files_of_version_0_1_stay_with_their_input(keep: Site) -> None:
    make(keep, "cat.png", b"png 1")
    make(keep, "dog.png", b"dog 1")
    forget_names(keep)
    make(keep, "cat.jpg", b"jpg 1")
    make(keep, "cat.png", b"png version 2")
    make(keep, "dog.png", b"dog version 2")
    assert latest(keep) == {
        "cat.png": b"of png version 2", "cat.jpg.png": b"of jpg 1", "dog.png": b"of dog version 2",
    }  # fmt: skip


@pytest.mark.slow
def test_an_older_picture_does_not_make_a_foreign_material_ours(keep: Site) -> None:
    make(keep, "cat.png", b"a picture")
    put_foreign(keep, "cat.mtl")
    make_mesh(keep, "cat.png", b"a texture")
    assert (keep.outbox / "in/latest/cat.mtl").read_bytes() == b"mine"
    assert textures(keep) == {"cat.obj": (b"a texture", b"a texture", b"picture a texture")}


# --- an OBJ and what it names ---


def make_mesh(site: Site, name: str, data: bytes) -> None:
    """Publish a textured OBJ and PLY, as they are written, whose texture is that data."""
    from dna_pipeline.media.meshes.obj_names import word

    site.put(name, data)
    site.settle()
    job = site.claim_next()
    beside = word(job.stem)
    written = {
        f"{job.stem}.obj": ("mesh", f"# x\nmtllib {beside}.mtl\no x\nv 1 2 3\n".encode()),
        f"{job.stem}.ply": (
            "mesh", f"ply\ncomment TextureFile {beside}.texture.png\nend\n".encode() + data,
        ),
        f"{beside}.mtl": ("material", f"newmtl x\nmap_Kd {beside}.texture.png\n".encode()),
        f"{beside}.texture.png": ("texture", data),
        f"{job.stem}.png": ("image", b"picture " + data),
    }  # fmt: skip
    site.finish(job, roles={path: role for path, (role, _) in written.items()})
    for path, (_, content) in written.items():
        _rewrite(site, site.config.work / job.id / "remove_background" / path, content)
    site.publish()


def _rewrite(site: Site, path: Path, content: bytes) -> None:
    """Give a stage's file other bytes, in the ledger too."""
    from sqlalchemy import update

    from dna_pipeline.ledger.tables import ArtifactRow

    path.write_bytes(content)
    of_file = update(ArtifactRow).where(ArtifactRow.path == path.name)
    site.ledger.transact(lambda s: s.execute(of_file.values(bytes=len(content))))


def textures(site: Site) -> dict[str, tuple[bytes, bytes, bytes]]:
    """For each OBJ in latest its texture, that of the PLY beside it, and the picture."""
    home = site.outbox / "in/latest"

    def named(file: Path, key: str) -> Path:
        lines = file.read_bytes().splitlines()
        (told,) = [
            line.removeprefix(key.encode()) for line in lines if line.startswith(key.encode())
        ]
        assert len(told.split()) == 1
        return home / told.decode().strip()

    found: dict[str, tuple[bytes, bytes, bytes]] = {}
    for path in home.glob("*.obj"):
        texture = named(named(path, "mtllib "), "map_Kd ").read_bytes()
        of_ply = named(path.with_suffix(".ply"), "comment TextureFile ").read_bytes()
        found[path.name] = texture, of_ply, path.with_suffix(".png").read_bytes()
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ["cat.png", "cat.jpg"],
        ["my chair.png", "my_chair.png", "my#chair.png", "my  chair.png"],
        ["cat.texture.png", "cat.png"],
        ["cat.png", "cat.texture.png"],
        ["my chair.png", "my_chair.texture.png"],
        ["Cat.png", "cat.png"],
    ],
    ids=lambda names: "+".join(names),
)
def test_each_obj_finds_its_own_texture(keep: Site, names: list[str]) -> None:
    for version in (b"first", b"the second"):
        for number, name in enumerate(names):
            make_mesh(keep, name, b"%d %s" % (number, version))
        found = textures(keep)
        assert sorted(found.values()) == [
            (data, data, b"picture " + data)
            for data in (b"%d %s" % (number, version) for number in range(len(names)))
        ]
        keep.restart()
    assert len(list((keep.outbox / "in/latest").iterdir())) == 5 * len(names)


@pytest.mark.slow
def test_results_are_left_as_they_are(keep: Site) -> None:
    make_mesh(keep, "cat.png", b"one")
    make_mesh(keep, "cat.jpg", b"two")
    for folder in keep.folders():
        assert b"mtllib cat.mtl" in (keep.outbox / folder / "cat.obj").read_bytes()
