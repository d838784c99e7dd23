import re

import pytest
from django.conf import settings
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from master_app.services import file_register
from tests.support.records import GIB, add_file, add_node

pytestmark = pytest.mark.django_db


def headline(client: Client) -> str:
    html = client.get("/").content.decode()
    found = re.search(r"<h1>(.*?)</h1>", html, re.DOTALL)
    assert found
    return re.sub(r"<[^>]+>", "", found[1])


def test_the_first_page_shows_state_upload_files_and_the_image_form(client: Client) -> None:
    add_node("8001")
    add_node("8002")
    file = add_file("report.pdf")
    response = client.get("/")
    html = response.content.decode()
    assert response.status_code == 200
    assert "All 2 nodes are healthy." in html
    assert "1 file, 10 bytes, 2 copies of it." in html.replace("\xa0", " ")
    assert 'data-upload-url="http://127.0.0.1:8001/upload"' in html
    assert (
        f'href="http://127.0.0.1:8001/retrieve?hash={file.blob.hash}&amp;name=report.pdf"' in html
    )
    assert f'data-max-upload-bytes="{settings.ENV.max_upload_bytes}"' in html
    assert f'data-max-file-bytes="{settings.ENV.max_file_bytes}"' in html
    assert 'action="/seedream/generate"' in html
    assert response.headers["Cache-Control"].startswith("max-age=0")


def test_the_first_page_has_no_inline_code_and_nothing_from_elsewhere(client: Client) -> None:
    add_node("8001")
    add_file("a.txt", replicas=("8001",))
    html = client.get("/").content.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)", html)
    assert "<style" not in html
    assert not re.search(r"\s(style|on\w+)=", html)
    sources = re.findall(r'<(?:script|link|img)[^>]*?(?:src|href)="([^"]+)"', html)
    assert sources
    assert all(source.startswith("/static/") for source in sources)


def test_without_any_node_the_page_says_how_to_start_one(client: Client) -> None:
    assert headline(client) == (
        "No storage node is up: start one with python manage.py runserver --role node 8001"
    )


def test_with_every_node_down_the_command_starts_one_that_is_known(client: Client) -> None:
    add_node("8002", silent_seconds=500)
    assert headline(client).endswith("runserver --role node 8002")
    assert "data-upload-url" not in client.get("/").content.decode()


def test_a_silent_node_is_named_with_the_length_of_its_silence(client: Client) -> None:
    add_node("8001")
    add_node("8002", silent_seconds=12.3)
    assert headline(client) == (
        "Node 8002 has been silent for 12 s; uploads go on with fewer copies."
    )


def test_enough_nodes_beside_a_silent_one_keep_the_number_of_copies(client: Client) -> None:
    add_node("8001")
    add_node("8002")
    add_node("8003", silent_seconds=3600)
    assert headline(client) == "Node 8003 has been silent for 60 min; uploads go on with 2 copies."


def test_no_copies_are_promised_while_a_node_is_silent(client: Client) -> None:
    add_node("8001")
    add_node("8002", silent_seconds=12)
    add_file("a.txt")
    html = client.get("/fragments/cluster").content.decode().replace("\xa0", " ")
    assert ">1 file, 5 bytes.<" in html


def test_several_silent_nodes_are_named_together(client: Client) -> None:
    add_node("8001")
    add_node("8002", silent_seconds=30)
    add_node("8003", silent_seconds=400_000)
    assert headline(client) == (
        "Nodes 8002 and 8003 have been silent for 30 s or longer; uploads go on with fewer copies."
    )


def test_a_node_that_takes_no_files_is_named(client: Client) -> None:
    add_node("8001")
    add_node("8002", writable=False)
    assert headline(client) == ("Node 8002 takes no new files; uploads go on with fewer copies.")
    assert "read-only" in client.get("/").content.decode()


def test_nodes_that_all_take_no_files_stop_uploads_but_not_downloads(client: Client) -> None:
    add_node("8001", writable=False)
    assert headline(client) == "No node takes new files; downloads go on."


def test_one_healthy_node_is_too_few_for_two_copies(client: Client) -> None:
    add_node("8001")
    assert headline(client) == (
        "Node 8001 is healthy. For 2 copies of each file, start another with "
        "python manage.py runserver --role node 8002"
    )


def test_copies_that_are_still_missing_are_counted(client: Client) -> None:
    add_node("8001")
    add_node("8002")
    add_file("a.txt")
    add_file("b.txt", replicas=("8001",))
    html = client.get("/").content.decode().replace("\xa0", " ")
    assert "2 files, 10 bytes, 1 copy missing." in html
    assert "1 of 2 copies" in html


def test_a_node_card_tells_state_fill_level_and_last_heartbeat(client: Client) -> None:
    add_node("8001", silent_seconds=1.5, used_bytes=3 * GIB)
    html = client.get("/fragments/cluster").content.decode().replace("\xa0", " ")
    assert "Disk of node 8001, 25 % full" in html
    assert "3 GB stored · 75 GB free" in html
    assert "1 s ago" in html


def test_a_node_on_an_object_store_has_no_fill_level(client: Client) -> None:
    add_node("8001", capacity_bytes=None, free_bytes=None)
    assert 'role="meter"' not in client.get("/fragments/cluster").content.decode()


def test_an_empty_cluster_invites_to_drop_the_first_file(client: Client) -> None:
    html = client.get("/").content.decode()
    assert "No files yet" in html
    assert "Nothing is stored yet." in html


def test_the_search_finds_a_part_of_the_name_in_either_case(client: Client) -> None:
    add_node("8001")
    add_file("Quarterly Report.pdf")
    add_file("holiday.jpg")
    html = client.get("/fragments/files", {"q": " report "}).content.decode()
    assert 'title="Quarterly Report.pdf"' in html
    assert "holiday.jpg" not in html


def test_a_search_without_a_find_says_so_and_escapes_what_was_sought(client: Client) -> None:
    html = client.get("/fragments/files", {"q": "<b>\0"}).content.decode()
    assert "No file’s name contains “&lt;b&gt;”" in html


def test_a_name_that_is_markup_is_escaped(client: Client) -> None:
    add_node("8001")
    add_file("<img src=x onerror=alert(1)>.txt", replicas=("8001",))
    html = client.get("/").content.decode()
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;.txt" in html


def test_an_image_has_a_thumbnail_and_other_files_an_icon(client: Client) -> None:
    add_node("8001")
    image = add_file("a.png", content_type="image/png")
    add_file("b.zip", content_type="application/zip")
    html = client.get("/fragments/files").content.decode()
    assert f'src="/thumbnails/{image.blob.hash}"' in html
    assert html.count("<img") == 1
    assert "#icon-archive" in html


def test_a_record_that_no_node_confirmed_has_a_hash_but_no_link(client: Client) -> None:
    file_register(blob_hash="test123", name="announced.bin", size=5, replicas=["8001"])
    html = client.get("/fragments/files").content.decode()
    assert "unconfirmed" in html
    assert 'data-copy="test123"' in html
    assert "/retrieve" not in html


def test_the_end_of_a_long_name_stays_in_sight(client: Client) -> None:
    add_node("8001")
    add_file("a report whose name is far too long for the row.pdf")
    html = client.get("/fragments/files").content.decode()
    assert '<span class="name-tail">e row.pdf</span>' in html


def test_the_number_of_queries_does_not_grow_with_nodes_and_files(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for node_id in ("8001", "8002", "8003"):
        add_node(node_id)
    for number in range(12):
        add_file(f"{number}.png", replicas=("8001", "8003"), content_type="image/png")
    with django_assert_num_queries(5):
        client.get("/")
    with django_assert_num_queries(2):
        client.get("/fragments/cluster")
    with django_assert_num_queries(3):
        client.get("/fragments/files")


@pytest.mark.parametrize("path", ["/", "/fragments/cluster", "/fragments/files"])
def test_the_pages_are_for_reading_only(client: Client, path: str) -> None:
    response = client.post(path)
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, HEAD"


def test_a_missing_page_is_a_page_for_browsers_and_json_for_programs(client: Client) -> None:
    page = client.get("/nothing<here>", headers={"Accept": "text/html"})
    assert page.status_code == 404
    assert "There is nothing at this address." in page.content.decode()
    program = client.get("/nothing")
    assert program.json() == {"detail": "There is nothing at this address.", "code": "not_found"}
