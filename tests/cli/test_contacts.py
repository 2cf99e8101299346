"""relay contacts, relay export, relay import: lists of people in and out, with a relay that runs and without one."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import subprocess
import sys

import pytest

from tests.support.dns import DnsServer, mail
from tests.support.running import Running

PEOPLE = "email,first_name,tags,plan\nann@example.com,Ann,\"a,b\",pro\nbob@example.com,=Bob,,\nann@example.com,Twice,,\nnobody,,,\n"


@pytest.fixture(scope="module")
def dns():
    with DnsServer(mail("example.com")) as server:
        yield server


@pytest.fixture(params=["running", "alone"])
def relay(request, tmp_path, dns):
    where = Running(tmp_path / "relay", {"RELAY_DNS__NAMESERVERS": dns.address})
    if request.param == "alone":
        yield where
        return
    with where:
        yield where


def listed(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_file_comes_in_and_goes_out_again(relay, tmp_path):
    file = tmp_path / "people.csv"
    file.write_text(PEOPLE)
    told = relay.command("contacts", "import", str(file), "--preview")
    assert (told["total"], told["new"], told["duplicates"], told["invalid"]) == (4, 2, 1, 1)
    done = relay.run("contacts", "import", str(file), "--tag", "fair")
    assert done.returncode == 1
    assert "2 imported, 0 updated, 1 skipped (1 twice in the file, 0 suppressed), 1 refused" in done.stdout
    assert "row 5: nobody: 'nobody' has no @" in done.stderr
    assert not list((relay.data / "imports").iterdir())
    relay.text("contacts", "export", str(tmp_path / "out.csv"))
    found = listed(tmp_path / "out.csv")
    assert [(row["email"], row["first_name"], row["tags"], row["plan"]) for row in found] == [
        ("ann@example.com", "Ann", "a,b,fair", "pro"), ("bob@example.com", "'=Bob", "fair", "")]
    assert [each["email"] for each in json.loads(relay.text("contacts", "export", "--format", "json"))] == ["ann@example.com", "bob@example.com"]
    number = done.stdout.split("undo ")[1].split()[0]
    assert relay.text("contacts", "undo", number) == "2 contacts deleted, 0 as they were"
    assert json.loads(relay.text("contacts", "export", "--format", "json")) == []


def test_columns_mean_what_they_are_said_to_mean(relay, tmp_path):
    file = tmp_path / "people.csv"
    file.write_text("Wer,a=b,Notiz\nann@example.com,pro,secret\n")
    meant = ("--mapping", "Wer=email", "--mapping", "a=b=properties.plan", "--mapping", "Notiz=")
    assert relay.command("contacts", "import", str(file), *meant, "--preview")["mapping"] == {"Wer": "email", "a=b": "properties.plan", "Notiz": ""}
    assert relay.command("contacts", "import", str(file), *meant)["imported"] == 1
    relay.text("contacts", "export", str(tmp_path / "out.csv"))
    row, = listed(tmp_path / "out.csv")
    assert (row["email"], row["plan"]) == ("ann@example.com", "pro")
    assert "secret" not in (tmp_path / "out.csv").read_text()


@pytest.mark.parametrize(("mapping", "status", "error"), [
    pytest.param("Wer", 2, "'Wer' is not COLUMN=FIELD", id="no field"), pytest.param("=email", 2, "is not COLUMN=FIELD", id="no column"),
    pytest.param("Wer=emial", 1, "mapping of 'Wer': there is no 'emial'; there are email, first_name", id="no such field"),
    pytest.param("Wer=properties.", 1, "a property's name has 1 to 64", id="a property without a name"),
])
def test_a_mapping_that_is_none(tmp_path, dns, mapping, status, error):
    where = Running(tmp_path / "relay", {"RELAY_DNS__NAMESERVERS": dns.address})
    (tmp_path / "x.csv").write_text("Wer\nann@example.com\n")
    done = where.run("contacts", "import", str(tmp_path / "x.csv"), "--mapping", mapping)
    assert (done.returncode, error in done.stderr) == (status, True), done.stderr
    assert not list((where.data / "imports").glob("*"))


@pytest.mark.parametrize(("content", "error"), [
    pytest.param(b"name\nAnn\n", "no column email", id="no addresses"),
    pytest.param(b"PK\x03\x04nonsense", "damaged", id="a broken ZIP"),
])
def test_a_file_that_is_none(tmp_path, dns, content, error):
    where = Running(tmp_path / "relay", {"RELAY_DNS__NAMESERVERS": dns.address})
    (tmp_path / "x.csv").write_bytes(content)
    done = where.run("contacts", "import", str(tmp_path / "x.csv"))
    assert done.returncode == 1
    assert error in done.stderr
    assert not list((where.data / "imports").iterdir())


def test_a_project_goes_out_as_a_directory_and_comes_in_elsewhere(relay, tmp_path):
    file = tmp_path / "people.csv"
    file.write_text("email,plan\nann@example.com,pro\nbob@example.com,free\n")
    relay.text("contacts", "import", str(file))
    relay.text("suppress", "add", "gone@example.com")
    relay.text("project", "create", "other")
    told = relay.command("export", str(tmp_path / "all"))
    assert (told["rows"]["contacts"], told["rows"]["suppressions"]) == (2, 1)
    assert relay.command("import", str(tmp_path / "all"), "--project", "other")["contacts"] == 2
    relay.text("export", str(tmp_path / "again"), "--project", "other")
    before, after = (listed(tmp_path / name / "history.csv") for name in ("all", "again"))
    assert [row["act"] for row in before] == ["created", "created"]
    assert after == before, "the evidence of consent comes along as it was"
    relay.command("import", str(tmp_path / "all"), "--project", "other")
    relay.text("export", str(tmp_path / "twice"), "--project", "other")
    assert listed(tmp_path / "twice" / "history.csv") == after
    for name in sorted(path.name for path in (tmp_path / "all").iterdir() if path.name != "history.csv"):
        assert (tmp_path / "again" / name).read_text() == (tmp_path / "all" / name).read_text(), name


def test_contacts_that_a_project_refuses_keep_nothing_else_out(relay, tmp_path):
    """A project that has defined a property otherwise takes the rest, and says which contacts it did not take."""
    there = tmp_path / "all"
    there.mkdir()
    (there / "contacts.csv").write_text("email,seats\nann@example.com,5\nbob@example.com,many\n")
    (there / "suppressions.csv").write_text("email,reason,scope,evidence,created_at\ngone@example.com,manual,all,{},2026-01-02T03:04:05.000Z\n")
    defined = tmp_path / "defined"
    defined.mkdir()
    (defined / "properties.csv").write_text("name,label,type,options,required\nseats,Seats,number,,false\n")
    assert relay.command("import", str(defined)) == {"properties": 1}
    done = relay.run("import", str(there), "--json")
    assert (done.returncode, json.loads(done.stdout)) == (1, {"contacts": 1, "suppressions": 1})
    assert "1 contacts were refused: GET /contacts/imports/imp_" in done.stderr


def test_on_a_terminal_an_import_shows_how_far_it_is(tmp_path, dns):
    """A bar on standard error; what comes out on standard output stays the same, and without a terminal there is none."""
    where, file = Running(tmp_path / "relay", {"RELAY_DNS__NAMESERVERS": dns.address}), tmp_path / "people.csv"
    file.write_text("email\n" + "".join(f"p{n}@example.com\n" for n in range(2_000)))
    with where:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "relay", "contacts", "import", str(file), "--json"]
        process = subprocess.Popen(command, env={**where.environ, "TERM": "xterm"}, cwd=where.directory, stdout=subprocess.PIPE, stderr=theirs)
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # a terminal whose last user has gone
            while piece := os.read(ours, 4096):
                shown += piece
        os.close(ours)
        told = json.loads(process.stdout.read())
        process.stdout.close()
        assert process.wait(150) == 0
        assert told["imported"] == 2_000
        assert b"importing" in shown
        assert b"2001/2001" in shown
        assert "/2001" not in where.run("contacts", "import", str(file)).stderr
