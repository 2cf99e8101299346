"""Files of contacts as people have them: encodings, delimiters, other programs' columns, Mailchimp's lists, ZIP files, and files that are none."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.audience import table
from relay.audience.cells import armed, defused
from relay.audience.columns import named
from relay.audience.reading import FILE, JSON, Ground, Reading
from relay.errors import RelayError
from relay.store.audience import merging
from relay.store.audience.properties import Property

NOW = datetime(2026, 9, 21, tzinfo=UTC).timestamp()
CHIMP = "Email Address,First Name,OPTIN_TIME,OPTIN_IP,CONFIRM_TIME,CONFIRM_IP,LEID,TAGS"


def taken(tmp_path, data, name="people.csv", form=FILE, **ground):
    """The rows as dictionaries, the faults, and the reading."""
    path = tmp_path / "upload"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    reading = Reading(str(path), name, form)
    reading.begin(Ground(now=NOW, **ground))
    rows, faults = [], []
    for piece in reading.pieces(1_000_000):
        part, _ = reading.part(piece, {})
        rows += [{name: orjson.loads(value) if name in merging.JSON else value for name, value in zip(merging.COLUMNS, row, strict=True) if value is not None}
                 for row in part.rows]
        faults += part.faults
    return rows, faults, reading


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/") + ".csv", text)
    return buffer.getvalue()


@pytest.mark.parametrize(("header", "row", "found"), [
    pytest.param("First Name,Last Name,Labels,E-mail 1 - Label,E-mail 1 - Value", "Ann,Berg,* myContacts ::: Friends,* Work,a@example.com ::: b@example.com",
                 {"first_name": "Ann", "last_name": "Berg", "tags": ["myContacts", "Friends"]}, id="Google"),
    pytest.param("Given Name,Family Name,Group Membership,E-mail 1 - Value", "Ann,Berg,* myContacts,a@example.com",
                 {"first_name": "Ann", "last_name": "Berg", "tags": ["myContacts"]}, id="Google, older"),
    pytest.param("First Name,Last Name,E-mail Address,Categories", "Ann,Berg,a@example.com,Red;Blue",
                 {"first_name": "Ann", "last_name": "Berg", "tags": ["Red", "Blue"]}, id="Outlook"),
    pytest.param("Record ID,First Name,Last Name,Email,Lifecycle Stage,Unsubscribed from all email", "7,Ann,Berg,a@example.com,Lead,TRUE",
                 {"first_name": "Ann", "properties": {"Record ID": "7", "Lifecycle Stage": "Lead"}, "left_at": NOW}, id="HubSpot"),
    pytest.param(CHIMP, 'a@example.com,Ann,2016-02-10 18:53:30,192.0.2.1,2016-02-10 19:00:00,192.0.2.2,7,"""a b"",""c"""',
                 {"tags": ["a b", "c"], "properties": {"LEID": "7"},
                  "evidence": {"at": datetime(2016, 2, 10, 19, tzinfo=UTC).timestamp(), "optin_at": "2016-02-10 18:53:30", "optin_ip": "192.0.2.1",
                               "confirm_at": "2016-02-10 19:00:00", "confirm_ip": "192.0.2.2"}}, id="Mailchimp"),
    pytest.param("EMAIL,FIRSTNAME,LASTNAME", "a@example.com,Ann,Berg", {"first_name": "Ann", "last_name": "Berg"}, id="Brevo"),
])
def test_columns_of_other_programs(tmp_path, header, row, found):
    rows, faults, _ = taken(tmp_path, f"{header}\n{row}\n")
    assert not faults
    assert rows[0]["email"] == "a@example.com"
    assert {name: rows[0].get(name) for name in found} == found


@pytest.mark.parametrize(("name", "header", "row", "left", "cleaned"), [
    ("unsubscribed_email_audience_export_1.csv", CHIMP + ",UNSUB_TIME,UNSUB_REASON", "a@example.com,,,,,,7,,2020-01-02 03:04:05,NORMAL",
     datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp(), None),
    ("cleaned_email_audience_export_1.csv", CHIMP + ",CLEAN_TIME", "a@example.com,,,,,,7,,2020-01-02 03:04:05", None,
     datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()),
    ("export.csv", "Email,CLEAN_TIME", "a@example.com,", None, NOW),
    ("export.csv", "Email,UNSUB_TIME", "a@example.com,long ago", NOW, None),
    ("nonsubscribed_email_audience_export_1.csv", CHIMP, "a@example.com,,,,,,7,", NOW, None),
    ("subscribed_email_audience_export_1.csv", CHIMP, "a@example.com,,,,,,7,", None, None),
    ("contacts-cleaned.csv", "email", "a@example.com", None, None),
    ("people.csv", "email,unsubscribed_at", "a@example.com,2020-01-01T00:00:00.000Z", datetime(2020, 1, 1, tzinfo=UTC).timestamp(), None),
    ("people.csv", "email,unsubscribed_at", "a@example.com,2999-01-01T00:00:00.000Z", NOW, None),
], ids=["left", "bounced", "bounced by its column", "left by its column", "never subscribed", "subscribed", "somebody's tidy list", "ours", "in the future"])
def test_who_left_and_whose_address_bounced(tmp_path, name, header, row, left, cleaned):
    rows, faults, _ = taken(tmp_path, f"{header}\n{row}\n", name)
    assert not faults
    assert (rows[0].get("left_at"), rows[0].get("cleaned_at")) == (left, cleaned)


def test_of_a_zip_the_lists_of_those_who_must_not_be_written_to_count_first(tmp_path):
    data = zipped(subscribed_1=f"{CHIMP}\na@example.com,,,,,,1,\nb@example.com,,,,,,2,\nc@example.com,,,,,,3,\n",
                  unsubscribed_1=f"{CHIMP},UNSUB_TIME\nb@example.com,,,,,,2,,2020-01-01 00:00:00\n",
                  cleaned_1=f"{CHIMP},CLEAN_TIME\nc@example.com,,,,,,3,,2020-01-01 00:00:00\nx,,,,,,,,\n", notes="what,ever\n1,2\n", __MACOSX__x="y")
    rows, faults, _ = taken(tmp_path, data, "export.zip")
    assert {row["email"][0]: ("left_at" in row, "cleaned_at" in row) for row in rows} == {"a": (False, False), "b": (True, False), "c": (False, True)}
    assert [(fault.row, fault.error) for fault in faults] == [(3, "cleaned_1.csv, line 3: 'x' has no @")]


PEOPLE = "email;First Name\r\na@example.com;Ünal\r\n"


@pytest.mark.parametrize("data", [
    PEOPLE.encode(), PEOPLE.encode("utf-8-sig"), PEOPLE.encode("utf-16"), PEOPLE.encode("utf-16-le"), PEOPLE.encode("utf-16-be"), PEOPLE.encode("cp1252"),
    PEOPLE.replace(";", "\t").encode(), PEOPLE.replace(";", "|").encode(), f"sep=;\r\n{PEOPLE}".encode(), f"SEP=;\n{PEOPLE}".encode("utf-16"),
    PEOPLE.replace("\r\n", "\r").encode(), PEOPLE.replace("\r\n", "\n").rstrip().encode(), f"\r\n \r\n{PEOPLE}\r\n\r\n".encode(),
    PEOPLE.replace("email", '"e\nmail"').replace("Ünal", '" Ünal "').encode(),
], ids=["UTF-8", "a mark", "UTF-16", "UTF-16 LE", "UTF-16 BE", "cp1252", "tabs", "bars", "sep=", "SEP= in UTF-16", "CR", "no end", "blank lines", "quotes"])
def test_encodings_and_delimiters(tmp_path, data):
    rows, faults, _ = taken(tmp_path, data)
    assert (rows[0]["email"], rows[0]["first_name"], faults) == ("a@example.com", "Ünal", [])


@pytest.mark.parametrize(("row", "error"), [
    pytest.param("b@example.com," + "x" * 70_000, "first_name has more than 65536 characters", id="a field"),
    pytest.param("b@example.com," + "x" * 1_500_000, "the line has more than 1000000 characters", id="a line"),
    pytest.param("b@example.com," + "x" * 300, "first_name is a text of up to 255 characters", id="a name"),
])
def test_what_is_too_long_costs_its_row_alone(tmp_path, row, error):
    rows, faults, _ = taken(tmp_path, f"email,first_name\n{row}\na@example.com,Ann\n")
    assert [each["email"] for each in rows] == ["a@example.com"]
    assert faults[0].error == error


@pytest.mark.parametrize(("data", "error"), [
    pytest.param(b"", "no column email", id="nothing"),
    pytest.param(b"name\nAnn\n", "no column email", id="no addresses"),
    pytest.param(b"\xff\xfe", "no column email", id="a mark alone"),
    pytest.param(b"\0" * 100, "no column email", id="NULs"),
    pytest.param(b"email," + b"x," * 600 + b"\n", "more than 500 columns", id="too many columns"),
    pytest.param(b"\xd0\xcf\x11\xe0" + b"x" * 100, "save it as CSV", id="an old spreadsheet"),
    pytest.param(b"PK\x03\x04" + b"x" * 100, "the ZIP file is damaged", id="a broken ZIP"),
    pytest.param(zipped(), "0 CSV files", id="an empty ZIP"),
    pytest.param(zipped(**{f"f{n}": "email\n" for n in range(30)}), "30 CSV files", id="too many files"),
    pytest.param(zipped(bomb="email\n" + "a" * 20_000_000), "unpacks to more", id="a bomb"),
    pytest.param(zipped(a="what\n"), "no column email", id="a ZIP of something else"),
])
def test_files_that_are_none(tmp_path, data, error):
    with pytest.raises(RelayError, match=error):
        taken(tmp_path, data)


def test_a_quotation_that_does_not_end_is_not_held_as_a_whole(tmp_path):
    _, faults, _ = taken(tmp_path, 'email,first_name\nb@example.com,"' + ("x" * 999 + "\n") * 1_100)
    assert faults[0].error == "field larger than field limit (1000000)"


def test_a_zip_whose_directory_lies_is_not_unpacked_beyond_what_it_says(tmp_path):
    data = zipped(a="email\n" + "a@example.com\n" * 100_000)
    size = (6 + 14 * 100_000).to_bytes(4, "little")
    with pytest.raises(RelayError, match="cannot be read: it is damaged"):
        taken(tmp_path, data.replace(size, (20).to_bytes(4, "little")))


@pytest.mark.parametrize(("given", "error"), [
    (b"{", "not JSON"), (b"{}", "contacts is a list"), (b"[]", "contacts is a list"), (b"7", "contacts is a list"),
    (b'{"contacts": [{"email": "a@example.com"}, 1]}', r"contacts\[1\] is no object such as"),
])
def test_requests_that_are_none(tmp_path, given, error):
    with pytest.raises(RelayError, match=error):
        taken(tmp_path, given, form=JSON)


def test_a_json_export_is_read_by_the_line_however_long_it_is(tmp_path):
    data = b'[\n' + b",\n".join(b'{"email":"p%d@example.com","tags":["x"],"unsubscribed_at":null}' % n for n in range(10_050)) + b",\n{nonsense\n]\n"
    rows, faults, _ = taken(tmp_path, data, form=JSON)
    assert (len(rows), [fault.error for fault in faults]) == (10_050, ["the row is no JSON object"])


def test_rows_before_the_place_reached_are_not_taken_again_but_still_count_as_seen(tmp_path):
    data = "email\na@example.com\nb@example.com\nc@example.com\nA@example.com\nd@example.com\n"
    rows, _, _ = taken(tmp_path, data, skip=3, slice=2)
    assert [row["email"] for row in rows] == ["c@example.com", "d@example.com"]


def test_what_a_column_cannot_hold_comes_from_the_one_that_can(tmp_path):
    data = 'email,seats,note,properties\na@example.com,5,x,"{""seats"": 5, ""list"": [1]}"\nb@example.com,6,,"{""seats"": 5}"\nc@example.com,,,nonsense\n'
    rows, faults, _ = taken(tmp_path, data)
    assert [row["properties"] for row in rows] == [{"list": [1], "seats": 5, "note": "x"}, {"seats": "6"}]
    assert faults[0].error == "properties is no JSON object"


def test_cells_are_of_the_type_that_is_defined(tmp_path):
    typed = {name: Property(1, 1, name, "", kind, [], False, 0.0) for name, kind in (("seats", "number"), ("ok", "boolean"), ("since", "date"))}
    data = "email,seats,ok,since\na@example.com, 12 ,YES,2026-01-02\nb@example.com,many,,\nc@example.com,,,soon\n"
    rows, faults, _ = taken(tmp_path, data, definitions=typed)
    assert rows[0]["properties"] == {"seats": 12, "ok": True, "since": "2026-01-02"}
    assert [fault.row for fault in faults] == [3, 4]


NAMED = [f"t{n}" for n in range(99)]


@pytest.mark.parametrize("form", [FILE, JSON])
@pytest.mark.parametrize(("own", "everybodys", "found"), [
    pytest.param(NAMED, ["a"], 100, id="as many as fit"),
    pytest.param([*NAMED, "a"], ["b"], 101, id="one too many"),
    pytest.param([*NAMED, "a"], ["a", "t0"], 100, id="the same ones"),
    pytest.param(["a"], [*NAMED, "b"], 101, id="the import has the most"),
])
def test_tags_that_are_too_many_with_those_of_the_import_are_an_error_of_their_row(tmp_path, form, own, everybodys, found):
    data = f"email,tags\na@example.com,{';'.join(own)}\nb@example.com,\n" if form == FILE else orjson.dumps(
        [{"email": "a@example.com", "tags": own}, {"email": "b@example.com"}])
    rows, faults, _ = taken(tmp_path, data, form=form, tags=everybodys)
    wrong = [("a@example.com", f"a contact has at most 100 tags, this one has {found} with those of the import")] if found > 100 else []
    assert [(fault.email, fault.error) for fault in faults] == wrong
    assert {row["email"]: set(row["tags"]) for row in rows} == {**({} if wrong else {"a@example.com": {*own, *everybodys}}), "b@example.com": set(everybodys)}


def test_an_address_that_bounced_is_suppressed_however_many_tags_it_has(tmp_path):
    data = zipped(cleaned_members="Email Address,CLEAN_TIME,TAGS\na@example.com,2016-02-10 18:53:30," + ";".join(NAMED) + "\n")
    rows, faults, _ = taken(tmp_path, data, tags=["a", "b"])
    assert ([row["email"] for row in rows], faults) == (["a@example.com"], [])


@given(st.text(alphabet=st.one_of(st.sampled_from("'=+-@ \t\n\r1.a"), st.characters(codec="utf-8")), max_size=12))
def test_a_cell_comes_back(cell):
    marked = defused(cell)
    assert armed(marked) == cell
    assert not marked.startswith(("=", "+", "@", "\t", "\r")) or marked == ""


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters='"\\'), min_size=1, max_size=64))
def test_a_property_s_column_is_read_as_that_property(name):
    from relay.audience.columns import PROPERTY, meaning

    assert meaning(named(name)) == PROPERTY + name


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=400), st.text(max_size=200).map(lambda text: b"email,a,properties,tags\n" + text.encode("utf-8", "ignore"))))
def test_no_octets_break_it(data):
    try:
        mapping, rows = table.lines(io.BytesIO(data), "x.csv")
        for _ in rows:
            assert "email" in mapping.values()
    except RelayError:
        pass
