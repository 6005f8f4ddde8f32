from __future__ import annotations

import os
from pathlib import Path

import pytest

from node.errors import InvalidInput
from node.ipfs.importer import Profile, car_chunks, import_bytes, import_file, import_folder, write_car

V1, V0, KUBO1 = Profile.UNIXFS_V1_2025, Profile.UNIXFS_V0_2015, Profile.KUBO_CID_V1


@pytest.mark.parametrize(
    ("profile", "content", "cid"),
    [
        (V1, b"", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
        (KUBO1, b"", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
        (V0, b"", "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"),
        (V0, b"hello world\n", "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o"),
        (KUBO1, b"hello world\n", "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"),
    ],
)
def test_well_known_cids(profile: Profile, content: bytes, cid: str) -> None:
    assert str(import_bytes(content, profile=profile).root) == cid


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_a_file_on_disk_and_bytes_in_memory_are_one(
    tmp_path: Path, profile: Profile, chunks: int, extra: int
) -> None:
    content = os.urandom(profile.chunk * chunks + extra)
    (tmp_path / "f").write_bytes(content)
    assert import_file(tmp_path / "f", profile=profile).root == import_bytes(content, profile=profile).root


def test_sizes_and_blocks_are_counted() -> None:
    imported = import_bytes(bytes(2**20 * 3 + 1))
    assert (imported.size, imported.blocks) == (2**20 * 3 + 1, 5)
    assert len(list(car_chunks([imported]))) == 1 + 5


def test_folders_of_the_same_content_have_the_same_cid_whatever_the_order_they_were_made_in(
    tmp_path: Path,
) -> None:
    for parent, names in (("x", "abc"), ("y", "cab")):
        (tmp_path / parent).mkdir()
        for name in names:
            (tmp_path / parent / name).write_bytes(name.encode())
    assert import_folder(tmp_path / "x").root == import_folder(tmp_path / "y").root


def test_the_empty_folder_is_the_one_everybody_knows(tmp_path: Path) -> None:
    assert str(import_folder(tmp_path, profile=V0).root) == "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
    assert str(import_folder(tmp_path).root) == "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"


def test_links_and_pipes_are_not_published(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match="'link' is neither"):
        import_folder(tmp_path)
    (tmp_path / "link").unlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match="'pipe' is neither"):
        import_folder(tmp_path)


def test_names_that_are_not_text_are_not_published(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff")).write_bytes(b"")
    with pytest.raises(InvalidInput, match="not a name"):
        import_folder(tmp_path)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not a file"):
        import_file(tmp_path / "none")
    with pytest.raises(InvalidInput, match="not a folder"):
        import_folder(tmp_path / "none")


@pytest.mark.parametrize("change", [b"other content", b""])
def test_a_file_that_changes_while_it_is_published_is_noticed(tmp_path: Path, change: bytes) -> None:
    (tmp_path / "f").write_bytes(b"some content")
    imported = import_file(tmp_path / "f")
    (tmp_path / "f").write_bytes(change)
    with pytest.raises(InvalidInput, match="changed"):
        write_car(tmp_path / "f.car", imported)
