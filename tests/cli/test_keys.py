"""``daafl keys``: identities and rosters, from the command line, without ever showing a secret."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from daafl.cli.app import app, exit_code
from daafl.secure.key_files import read_identity, read_public
from daafl.secure.roster_files import read_roster

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def federation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured) -> Path:
    """A folder with an authority, a server, two nodes and their roster, in which we stand."""
    monkeypatch.chdir(tmp_path)
    keys("authority", "authority")
    for name in ("server", "a", "b", "c"):
        keys("new", name)
    keys("roster", "r.json", "--federation", "test", "--server", "server.pub", *SIGN)
    certify(0, "a.pub")
    certify(1, "b.pub")
    capfd.readouterr()
    return tmp_path


SIGN = ("--authority", "authority")


def keys(*arguments: str, code: int = 0) -> None:
    assert exit_code(["keys", *arguments]) == code


def certify(node: int, public: str, code: int = 0) -> None:
    keys("certify", "r.json", public, "--node", str(node), *SIGN, code=code)


def checked(capfd: Captured, *arguments: str) -> tuple[int, dict[str, object]]:
    capfd.readouterr()
    code = exit_code(["keys", "check", "r.json", *arguments, "--json"])
    document: dict[str, object] = json.loads(capfd.readouterr().out)
    return code, document


def test_a_new_key_is_for_its_owner_only_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    before = os.umask(0)  # what others may do does not depend on it
    try:
        keys("new", "deep/node")
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path("deep/node").stat().st_mode) == 0o600
    shown = capfd.readouterr()
    identity = read_identity(Path("deep/node"))
    secret = identity.secret().reveal()
    assert identity.public.hex() in shown.out
    assert read_public(Path("deep/node.pub")) == identity.public
    body = Path("deep/node").read_text().splitlines()[1]
    for form in (secret.hex(), body, repr(secret)[2:-1]):
        assert form not in shown.out + shown.err
        assert form not in Path("deep/node.pub").read_text()


@pytest.mark.parametrize("taken", ["key", "key.pub"])
def test_a_key_is_never_overwritten(
    taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(taken).write_text("precious")
    keys("new", "key", code=2)
    assert Path(taken).read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == [taken]
    assert "never overwritten" in capfd.readouterr().err


def test_other_tools_read_the_keys(federation: Path) -> None:
    """PKCS #8 of an Ed25519 key in DER is 16 fixed bytes and the 32 of the key (RFC 8410, 7)."""
    import base64

    body = "".join(Path("a").read_text().splitlines()[1:-1])
    der = base64.b64decode(body)
    assert der[:16].hex() == "302e020100300506032b657004220420"
    assert der[16:] == read_identity(Path("a")).secret().reveal()


def test_a_roster_grows_and_every_version_is_signed(federation: Path, capfd: Captured) -> None:
    code, document = checked(capfd, "--authority-key", "authority.pub", "--federation", "test")
    assert code == 0
    assert document == {
        "roster": "r.json",
        "valid": True,
        "federation": "test",
        "epoch": 3,
        "nodes": 2,
        "problem": None,
    }
    certify(1, "c.pub")
    keys("revoke", "r.json", "0", *SIGN)
    roster = read_roster(Path("r.json")).roster
    assert roster.epoch == 5
    assert dict(roster.members) == {1: read_public(Path("c.pub"))}
    assert roster.revoked == {read_public(Path("a.pub")), read_public(Path("b.pub"))}
    assert "epoch 5 of test, 1 node\n" in capfd.readouterr().out


def test_the_list_names_nodes_server_and_revoked_keys(federation: Path, capfd: Captured) -> None:
    keys("revoke", "r.json", "1", *SIGN)
    capfd.readouterr()
    keys("list", "r.json")
    shown = capfd.readouterr().out.splitlines()
    assert shown[0] == "epoch 4 of test, 1 node"
    names = [line.split() for line in shown[1:]]
    files = [("server", "server.pub"), ("0", "a.pub"), ("revoked", "b.pub")]
    assert names == [[name, read_public(Path(file)).hex()] for name, file in files]
    keys("list", "r.json", "--json")
    assert json.loads(capfd.readouterr().out) == json.loads(Path("r.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--authority-key", "a.pub"], "the authority did not sign this roster"),
        (["--authority-key", "server.pub"], "the server signs its own roster"),
        (["--authority-key", "authority.pub", "--min-epoch", "4"], "roster 3 is older than 4"),
        (["--authority-key", "authority.pub", "--federation", "x"], "is of another federation"),
    ],
)
def test_a_roster_that_is_not_to_be_used(
    arguments: list[str], problem: str, federation: Path, capfd: Captured
) -> None:
    code, document = checked(capfd, *arguments)
    assert code == 1
    assert document["valid"] is False
    assert problem in str(document["problem"])
    assert exit_code(["keys", "check", "r.json", *arguments]) == 1
    assert "not to be used" in capfd.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        lambda d: {**d, "epoch": 4},
        lambda d: {**d, "federation": "tesu"},
        lambda d: {**d, "members": [{**d["members"][0], "node": 5}, *d["members"][1:]][::-1]},
        lambda d: {**d, "revoked": ["ab" * 32]},
        lambda d: {**d, "server": "cd" * 32},
    ],
)
def test_a_changed_roster_is_noticed_and_not_signed_again(
    change: object, federation: Path, capfd: Captured
) -> None:
    document = json.loads(Path("r.json").read_text())
    Path("r.json").write_text(json.dumps(change(document)))  # type: ignore[operator]
    code, result = checked(capfd, "--authority-key", "authority.pub")
    assert (code, result["problem"]) == (1, "the authority did not sign this roster")
    certify(7, "c.pub", code=2)
    assert "is not changed: the authority did not sign this roster" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["certify", "r.json", "a.pub", "--node", "3", *SIGN], "a key of its own"),
        (["certify", "r.json", "a.pub", "--node", "0", *SIGN], "has this key in r.json already"),
        (["certify", "r.json", "a", "--node", "3", *SIGN], "is a private key, which goes nowhere"),
        (["certify", "r.json", "r.json", "--node", "3", *SIGN], "no Ed25519 public key"),
        (["certify", "r.json", "none.pub", "--node", "3", *SIGN], "none.pub cannot be read"),
        (["certify", "r.json", "c.pub", "--node", "-1", *SIGN], "-1 is not in the range"),
        (["certify", "r.json", "c.pub", "--node", "3", "--authority", "a"], "did not sign"),
        (["certify", "r.json", "c.pub", "--node", "3", "--authority", "a.pub"], "no Ed25519 priv"),
        (["certify", "a.pub", "c.pub", "--node", "3", *SIGN], "a.pub is no roster"),
        (["revoke", "r.json", "9", *SIGN], "node 9 is not in the roster"),
        (["roster", "r.json", "--federation", "x", "--server", "server.pub", *SIGN], "already"),
        (["roster", "s.json", "--federation", "", "--server", "server.pub", *SIGN], "1 to 256"),
        (["roster", "s.json", "--federation", "x", "--server", "authority.pub", *SIGN], "server"),
        (["list", "none.json"], "none.json cannot be read"),
        (["list", "."], "is a directory"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    arguments: list[str], sentence: str, federation: Path, capfd: Captured
) -> None:
    before = Path("r.json").read_bytes()
    keys(*arguments, code=2)
    assert sentence in capfd.readouterr().err
    assert Path("r.json").read_bytes() == before
    assert not Path("s.json").exists()


def test_a_revoked_key_never_comes_back(federation: Path, capfd: Captured) -> None:
    keys("revoke", "r.json", "0", *SIGN)
    certify(8, "a.pub", code=2)
    assert "revoked" in capfd.readouterr().err


def test_a_key_that_others_can_read_is_not_used(federation: Path, capfd: Captured) -> None:
    Path("authority").chmod(0o640)
    certify(2, "c.pub", code=2)
    shown = capfd.readouterr().err
    assert "chmod 600" in shown
    Path("authority").chmod(0o600)
    assert read_identity(Path("authority")).secret().reveal().hex() not in shown


def test_what_is_no_key_file_is_refused_at_once(tmp_path: Path, capfd: Captured) -> None:
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    large.write_bytes(bytes(1 << 20))
    large.chmod(0o600)
    for path, sentence in ((pipe, "no regular file"), (large, "it is no key")):
        arguments = ["keys", "roster", "r", "--federation", "x", "--server", "s"]
        assert exit_code([*arguments, "--authority", str(path)]) == 2
        assert sentence in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["authority", "certify", "check", "list", "new", "revoke", "roster"]),
        (["certify", "r.json", "a.pub"], ["--node", "--authority", "--help"]),
    ],
)
def test_the_shell_completes_commands_and_options(words: list[str], expected: list[str]) -> None:
    complete = ShellComplete(app, {}, "daafl", "_DAAFL_COMPLETE")
    found = complete.get_completions(["keys", *words], "--" if words else "")
    assert sorted(item.value for item in found) == sorted(expected)


def test_help_of_keys_and_audit_loads_nothing_heavy() -> None:
    code = (
        "import sys; from daafl.cli.app import exit_code;"
        "exit_code(['keys', '--help']); exit_code(['audit', 'verify', '--help']);"
        "heavy = {'torch', 'flwr', 'numpy', 'cryptography'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
