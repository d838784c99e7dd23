import random
from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test import Client
from django.test.utils import CaptureQueriesContext

from master_app import derived
from master_app.models import Blob, File
from master_app.name_search import NEWEST_FOUND, files_found, files_named
from master_app.services import file_register
from tests.support.records import add_file, add_node

pytestmark = pytest.mark.django_db

NAMES = [
    "Annual report 2024.pdf",
    "annual REPORT 2025.pdf",
    "Größe der Wörter.txt",
    "100% sure_thing.csv",
    'a "quoted" name.txt',
    "日本語のファイル.txt",
    "ab",
    "x",
    "emoji 🎉🎉🎉 party.png",
]


@pytest.fixture
def files() -> list[File]:
    add_node("8001")
    return [add_file(name, replicas=("8001",)) for name in NAMES]


def found(*texts: str) -> list[str]:
    return [file.name for file in files_named(File.objects.all(), texts).order_by(NEWEST_FOUND)]


def plan_of(files: QuerySet[File]) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        list(files.order_by(NEWEST_FOUND)[:20])
    (search,) = [query["sql"] for query in captured]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {search}")
        return [row[3] for row in cursor.fetchall()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("report", ["annual REPORT 2025.pdf", "Annual report 2024.pdf"]),
        ("REPORT 2024", ["Annual report 2024.pdf"]),
        ("Wört", ["Größe der Wörter.txt"]),
        ("öße", ["Größe der Wörter.txt"]),
        ("0% s", ["100% sure_thing.csv"]),
        ("e_t", ["100% sure_thing.csv"]),
        ('"quoted"', ['a "quoted" name.txt']),
        ("本語の", ["日本語のファイル.txt"]),
        ("🎉🎉🎉 p", ["emoji 🎉🎉🎉 party.png"]),
        ("x", ["annual REPORT 2025.pdf"]),
        ("AB", ["ab"]),
        ("port ann", []),
        ("NOT", []),
        ("a*", []),
        ("rep OR ann", []),
        ("a" * 256, []),
        ("nul\0", []),
    ],
)
def test_a_part_of_a_name_is_found_in_either_case(
    files: list[File], text: str, expected: list[str]
) -> None:
    if text == "x":
        expected = [name for name in reversed(NAMES) if "x" in name]
    assert found(text) == expected


def test_every_text_has_to_be_in_the_name(files: list[File]) -> None:
    assert found("report", "2024") == ["Annual report 2024.pdf"]
    assert found("report", "4", "Ann") == ["Annual report 2024.pdf"]
    assert found("report", "txt") == []


def test_the_index_finds_what_reading_every_name_finds() -> None:
    draw = random.Random(11)
    words = ["aaa", "aab", "ab a", "AbA", "ä", "b%", "_", '"', "日本", "*"]
    for number in range(150):
        name = "".join(draw.choices(words, k=draw.randint(1, 5)))
        file_register(blob_hash=f"h{number}", name=f"{name} {number}", size=1, replicas=[])
    for _ in range(150):
        text = "".join(draw.choices(words, k=draw.randint(1, 3)))
        plain = set(File.objects.filter(name__icontains=text).values_list("name", flat=True))
        assert set(found(text)) == plain, text


def test_a_search_reads_the_index_and_not_the_names(files: list[File]) -> None:
    plan = plan_of(files_named(File.objects.all(), ["report"]))
    assert plan[0].startswith(f"SCAN {derived.NAMES} VIRTUAL TABLE")
    assert plan[1].startswith("SEARCH master_app_file USING INTEGER PRIMARY KEY")
    assert len(plan) == 2, "the rows come in the order of the index"


def test_renamed_and_deleted_files_are_found_no_more(files: list[File]) -> None:
    File.objects.filter(name="Annual report 2024.pdf").update(name="Summary.pdf")
    File.objects.filter(name="annual REPORT 2025.pdf").delete()
    assert found("report") == []
    assert found("summary") == ["Summary.pdf"]


def test_names_that_are_not_in_the_index_yet_are_found_all_the_same(files: list[File]) -> None:
    blob = Blob.objects.all()[0]
    File.objects.create(blob=blob, name="late report.txt", created_at=blob.created_at)
    assert not derived.names_are_indexed()
    assert found("late report") == ["late report.txt"]
    File.objects.filter(name="late report.txt").update(name="later report.txt")
    derived.index_new_names()
    assert derived.names_are_indexed()
    assert found("later report") == ["later report.txt"]


def test_a_whole_hash_finds_its_files_and_those_that_are_named_after_it(files: list[File]) -> None:
    blob_hash = files[0].blob.hash
    file_register(blob_hash="other", name=f"{blob_hash}.bak", size=1, replicas=[])
    both = files_found(File.objects.all(), [blob_hash]).order_by(NEWEST_FOUND)
    assert [file.name for file in both] == [f"{blob_hash}.bak", files[0].name]
    one = files_found(File.objects.all(), [blob_hash, "annual"])
    assert [file.name for file in one] == [files[0].name]


def test_a_whole_hash_asks_the_index_once_and_not_for_each_file(files: list[File]) -> None:
    plan = plan_of(files_found(File.objects.all(), [files[0].blob.hash]))
    assert any(derived.NAMES in step for step in plan), plan
    assert not any("CORRELATED" in step for step in plan), plan
    assert "SCAN master_app_file" not in plan


@pytest.mark.parametrize("blob_hash", ["ab", "report", "2024"])
@pytest.mark.parametrize("is_indexed", [True, False])
def test_a_word_that_is_also_a_hash_is_still_found_in_names(
    files: list[File], blob_hash: str, *, is_indexed: bool
) -> None:
    expected = {name for name in NAMES if blob_hash in name.lower()} | {"its own.bin"}
    file_register(blob_hash=blob_hash, name="its own.bin", size=1, replicas=[])
    if not is_indexed:
        File.objects.create(blob=files[0].blob, name="late", created_at=files[0].created_at)
    assert set(files_found(File.objects.all(), [blob_hash]).values_list("name", flat=True)) == (
        expected
    )
    with_another = files_found(File.objects.all(), [blob_hash, "own"])
    assert [file.name for file in with_another] == ["its own.bin"]


def test_the_api_pages_through_what_it_finds_and_misses_nothing(client: Client) -> None:
    for number in range(25):
        add_file(f"photo {number}.jpg", uploaded_at=1_700_000_000 - number)
    add_file("other.txt")
    found: list[str] = []
    address = "/api/v1/files/?search=PHOTO&page_size=4"
    while address:
        page: Any = client.get(address).json()
        found += [file["name"] for file in page["results"]]
        address = page["next"]
    assert found == [f"photo {number}.jpg" for number in reversed(range(25))]


@pytest.mark.parametrize("address", ["?search=photo", "?search=p", ""])
@pytest.mark.parametrize("position", ["5", "2026-01-01 00:00:00+00:00", "9" * 30, "-1", "x"])
def test_a_position_of_another_list_leads_nowhere(
    client: Client, address: str, position: str
) -> None:
    from tests.master_app.test_api_v1 import cursor  # noqa: PLC0415

    query = {"cursor": cursor(position), **({"search": address[8:]} if address else {})}
    fits = position.isdigit() and len(position) < 19 if address else "+00:00" in position
    assert client.get("/api/v1/files/", query).status_code == (200 if fits else 404)


def test_without_an_index_names_are_read(
    files: list[File], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "vendor", "postgresql")
    monkeypatch.setattr(derived, "_seen", set())
    derived.index_new_names()
    assert found("report") == ["annual REPORT 2025.pdf", "Annual report 2024.pdf"]
    assert derived.totals() == derived.count_anew()
