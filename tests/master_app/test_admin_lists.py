import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from master_app.admin import base
from master_app.models import Blob, File, Node
from master_app.services import file_register
from tests.support.records import GIB, add_file, add_node

pytestmark = pytest.mark.django_db

FILES = "/admin/master_app/file/"
BLOBS = "/admin/master_app/blob/"
REPLICAS = "/admin/master_app/replica/"
NODES = "/admin/master_app/node/"
LISTS = (FILES, BLOBS, REPLICAS, NODES)


class Rows(HTMLParser):
    """The text of each row of an admin's list."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._inside = False
        table = html.split('id="result_list"', 1)
        self.feed(table[1].split("</table>")[0] if len(table) > 1 else "")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr" and "data-row" in (dict(attrs).get("class") or ""):
            self._inside = True
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[-1] += f" {data.strip()}"


def rows(client: Client, path: str, **query: str) -> list[str]:
    response = client.get(path, query)
    assert response.status_code == 200
    return [" ".join(text.split()) for text in Rows(response.content.decode()).texts]


def names(client: Client, **query: str) -> set[str]:
    html = client.get(FILES, query).content.decode()
    return set(re.findall(r'<span class="md-name" title="([^"]*)"', html))


@pytest.fixture
def cluster() -> None:
    """Two nodes that are up and one that is down, and files in every state of replication."""
    add_node("8001")
    add_node("8002")
    add_node("8003", silent_seconds=600)
    add_file("whole.png", content_type="image/png", content=b"w" * 1_500_000)
    add_file("thin.pdf", content_type="application/pdf", replicas=("8001",))
    add_file("gone.txt", content_type="text/plain", replicas=())
    add_file("asleep.zip", content_type="application/zip", replicas=("8001", "8003"))
    file_register(blob_hash="test123", name="claimed.bin", size=7, replicas=["8001"])


def test_the_file_list_shows_each_file_at_a_glance(admin_client: Client, cluster: None) -> None:
    by_name = {text.split()[1]: text for text in rows(admin_client, FILES)}
    html = admin_client.get(FILES).content.decode()
    whole = File.objects.get(name="whole.png")
    assert "1.4\xa0MB" in html
    assert 'title="1,500,000 bytes"' in html
    assert "2 of 2" in by_name["whole.png"]
    assert "image/png" in by_name["whole.png"]
    assert "8001 8002" in by_name["whole.png"]
    assert whole.blob.hash[:10] in by_name["whole.png"]
    assert re.search(r"\d+ s ago", by_name["whole.png"])
    assert f'<img src="/thumbnails/{whole.blob.hash}"' in html
    assert (
        f'href="http://127.0.0.1:8001/retrieve?hash={whole.blob.hash}&amp;name=whole.png"' in html
    )
    assert "unverified" in by_name["claimed.bin"]


def test_only_images_get_a_thumbnail(admin_client: Client, cluster: None) -> None:
    assert admin_client.get(FILES).content.count(b"/thumbnails/") == 1


@pytest.mark.parametrize(
    ("text", "tone"),
    [("2 of 2", "good"), ("1 of 2", "warning"), ("0 of 2", "bad"), ("unverified", "neutral")],
)
def test_replica_health_is_a_badge_in_its_colour(
    admin_client: Client, cluster: None, text: str, tone: str
) -> None:
    for path in (FILES, BLOBS):
        html = admin_client.get(path).content.decode()
        assert re.search(rf'md-badge-{tone}" title="[^"]*">{text}</span>', html)


def test_a_file_is_found_by_part_of_its_name_in_any_case(
    admin_client: Client, cluster: None
) -> None:
    assert names(admin_client, q="HOLE") == {"whole.png"}
    assert names(admin_client, q="nonesuch") == set()


def test_a_file_is_found_by_its_whole_hash(admin_client: Client, cluster: None) -> None:
    file = File.objects.get(name="thin.pdf")
    assert names(admin_client, q=file.blob.hash) == {"thin.pdf"}
    assert names(admin_client, q=file.blob.hash[:20]) == set()
    assert names(admin_client, q="test123") == {"claimed.bin"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"health": "full"}, {"whole.png"}),
        ({"health": "degraded"}, {"thin.pdf", "asleep.zip"}),
        ({"health": "lost"}, {"gone.txt"}),
        ({"health": "unverified"}, {"claimed.bin"}),
        ({"kind": "image"}, {"whole.png"}),
        ({"kind": "pdf"}, {"thin.pdf"}),
        ({"kind": "text"}, {"gone.txt"}),
        ({"kind": "archive"}, {"asleep.zip"}),
        ({"kind": "unknown"}, {"claimed.bin"}),
        ({"node": "8003"}, {"asleep.zip"}),
        ({"node": "8002"}, {"whole.png"}),
        ({"node": "nonesuch"}, set()),
        ({"verified": "yes"}, {"whole.png", "thin.pdf", "gone.txt", "asleep.zip"}),
        ({"verified": "no"}, {"claimed.bin"}),
        ({"node": "8001", "kind": "pdf", "q": "thin"}, {"thin.pdf"}),
    ],
)
def test_files_are_filtered(
    admin_client: Client, cluster: None, query: dict[str, str], expected: set[str]
) -> None:
    assert names(admin_client, **query) == expected


def test_files_are_filtered_by_date(admin_client: Client, cluster: None) -> None:
    old = timezone.now() - timedelta(days=400)
    File.objects.filter(name="thin.pdf").update(created_at=old)
    year_ago = (timezone.now() - timedelta(days=365)).strftime("%Y-%m-%d 00:00:00+00:00")
    assert "thin.pdf" not in names(admin_client, created_at__gte=year_ago)
    assert names(admin_client, created_at__lt=year_ago) == {"thin.pdf"}


@pytest.mark.parametrize(
    "query", [{"health": "nonesuch"}, {"kind": "nonesuch"}, {"verified": "maybe"}]
)
def test_a_filter_that_does_not_exist_filters_nothing(
    admin_client: Client, cluster: None, query: dict[str, str]
) -> None:
    assert len(names(admin_client, **query)) == 5


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"health": "full"}, 1),
        ({"health": "degraded"}, 2),
        ({"health": "lost"}, 1),
        ({"health": "unverified"}, 1),
        ({"node": "8001"}, 3),
        ({"verified": "no"}, 1),
        ({"q": "test1"}, 1),
        ({"q": "st123"}, 0),
    ],
)
def test_blobs_are_searched_and_filtered(
    admin_client: Client, cluster: None, query: dict[str, str], count: int
) -> None:
    assert len(rows(admin_client, BLOBS, **query)) == count


def test_blobs_show_size_replicas_nodes_and_number_of_names(
    admin_client: Client, cluster: None
) -> None:
    file = File.objects.get(name="whole.png")
    add_file("copy.png", content=b"w" * 1_500_000)
    (row,) = rows(admin_client, BLOBS, q=file.blob.hash)
    assert re.search(r"1\.4 MB 2 of 2 8001 8002 2 \d+ s ago", row)


def test_replicas_are_searched_by_hash_and_filtered_by_node(
    admin_client: Client, cluster: None
) -> None:
    file = File.objects.get(name="asleep.zip")
    found = rows(admin_client, REPLICAS, q=file.blob.hash)
    assert len(found) == 2
    assert "8003 Down" in found[0]
    assert "8001 Healthy" in found[1]
    assert len(rows(admin_client, REPLICAS, node="8003")) == 1


def test_nodes_show_state_fill_level_and_last_heartbeat(
    admin_client: Client, cluster: None
) -> None:
    Node.objects.update(used_bytes=30 * GIB, free_bytes=60 * GIB)
    add_node("8004", silent_seconds=10)
    found = rows(admin_client, NODES)
    assert re.match(r"8001 Healthy Active \d s ago 40% 30 GB – 60 GB", found[0])
    assert found[2].startswith("8003 Down Active 10 min ago")
    assert re.match(r"8004 Suspect Active 1\d s ago", found[3])
    html = admin_client.get(NODES).content.decode().replace("\xa0", " ")
    assert "30 GB blobs, 10 GB other data, 60 GB free of 100 GB" in html


def test_nodes_show_what_compression_saves(admin_client: Client) -> None:
    add_node("8001", used_bytes=30 * GIB, stored_bytes=12 * GIB, free_bytes=60 * GIB)
    (row,) = rows(admin_client, NODES)
    assert "30 GB 18 GB (60 %) 60 GB" in row
    html = admin_client.get(NODES).content.decode().replace("\xa0", " ")
    assert "12 GB blobs, 28 GB other data, 60 GB free of 100 GB" in html


@pytest.mark.parametrize(
    ("free", "tone"), [(50 * GIB, "good"), (10 * GIB, "warning"), (2 * GIB, "bad"), (0, "bad")]
)
def test_a_disk_that_fills_up_stands_out(admin_client: Client, free: int, tone: str) -> None:
    add_node("8001", free_bytes=free, used_bytes=90 * GIB)
    html = admin_client.get(NODES).content.decode()
    assert f"md-fill-{tone}" in html
    widths = [float(width) for width in re.findall(r'style="width:([\d.]+)%"', html)]
    assert sum(widths) == pytest.approx(100 - free / GIB)


def test_a_node_without_a_size_of_its_own_has_no_fill_level(admin_client: Client) -> None:
    add_node("s3", capacity_bytes=None, free_bytes=None)
    (row,) = rows(admin_client, NODES)
    assert "no limit" in row
    assert "%" not in row


@pytest.mark.parametrize(("state", "count"), [("healthy", 2), ("suspect", 0), ("down", 1)])
def test_nodes_are_filtered_by_state(
    admin_client: Client, cluster: None, state: str, count: int
) -> None:
    assert len(rows(admin_client, NODES, state=state)) == count


@pytest.mark.parametrize("path", LISTS)
def test_every_column_can_be_sorted_by_or_says_that_it_cannot(
    admin_client: Client, cluster: None, path: str
) -> None:
    for column in range(1, 11):
        assert admin_client.get(path, {"o": str(column)}).status_code == 200


@pytest.mark.parametrize("path", LISTS)
def test_the_number_of_queries_does_not_grow_with_the_rows(admin_client: Client, path: str) -> None:
    add_node("8001")
    add_node("8002")

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert admin_client.get(path).status_code == 200
        return len(captured)

    add_file("first.png", content_type="image/png")
    few = queries()
    for number in range(40):
        add_file(f"more {number}.png", content_type="image/png")
    assert len(rows(admin_client, FILES)) == 41
    assert queries() == few
    assert few <= 10


def test_no_list_counts_more_rows_than_it_has_pages_for(
    admin_client: Client, cluster: None
) -> None:
    for path in LISTS:
        for query in ({}, {"q": "x"}):
            with CaptureQueriesContext(connection) as captured:
                admin_client.get(path, query)
            counts = [entry["sql"] for entry in captured if entry["sql"].startswith("SELECT COUNT")]
            assert all("LIMIT" in sql for sql in counts), counts
            assert len(counts) <= 1


def test_a_list_says_how_many_rows_there_are_and_how_many_of_them_have_a_page(
    admin_client: Client, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "5 files" in foot(admin_client)
    monkeypatch.setattr(base, "MAX_PAGED_ROWS", 3)
    monkeypatch.setattr(base, "MAX_FOUND_ROWS", 1)
    assert "5 files, of which these pages show the first 3." in foot(admin_client)
    assert "More than 3 nodes" not in foot(admin_client, NODES)
    assert "More than 1 results" in foot(admin_client, health="degraded")
    assert "1 result." in foot(admin_client, health="full")


def foot(client: Client, path: str = FILES, **query: str) -> str:
    """Return the text below a list."""
    html = client.get(path, query).content.decode().rpartition('<div class="py-4">')[2]
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


@pytest.mark.parametrize("model", [File, Blob])
def test_the_newest_rows_come_from_an_index_without_sorting(
    admin_client: Client, cluster: None, model: type[File | Blob]
) -> None:
    with CaptureQueriesContext(connection) as captured:
        admin_client.get(f"/admin/master_app/{model._meta.model_name}/")
    table = f'FROM "{model._meta.db_table}"'
    statements = (query["sql"] for query in captured)
    page = next(sql for sql in statements if table in sql and "ORDER BY" in sql)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {page}")
        plan = " ".join(row[3] for row in cursor.fetchall())
    assert f"USING INDEX {model._meta.model_name}_newest" in plan
    assert "TEMP B-TREE" not in plan


def test_a_page_far_down_the_list_is_reached(admin_client: Client) -> None:
    add_node("8001")
    add_node("8002")
    for number in range(55):
        add_file(f"{number}.txt")
    assert len(rows(admin_client, FILES)) == 50
    assert len(rows(admin_client, FILES, p="2")) == 5


def test_an_empty_list_says_so(admin_client: Client) -> None:
    assert b"No files yet" in admin_client.get(FILES).content
    assert b"Nothing matches" in admin_client.get(FILES, {"q": "x"}).content


def test_who_may_view_sees_only_that(client: Client, cluster: None) -> None:
    user = User.objects.create_user("viewer", password="viewer-password", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_file"))
    client.force_login(user)
    assert client.get(FILES).status_code == 200
    assert client.get(BLOBS).status_code == 403
    assert REPLICAS.encode() not in client.get(FILES).content


@pytest.mark.parametrize("path", LISTS)
def test_a_stranger_is_sent_to_the_sign_in(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/")


def test_signing_in_leads_to_the_dashboard(client: Client) -> None:
    User.objects.create_superuser("admin", password="admin-password")
    form = {"username": "admin", "password": "admin-password"}
    assert client.post("/admin/login/", form)["Location"] == "/admin/"
