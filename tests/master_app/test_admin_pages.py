import re

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.staticfiles import finders
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext

from master_app.models import Blob, File, Node, Replica
from master_app.replica_health import ReplicaHealth, count_by_health
from master_app.services import file_register
from tests.support.records import GIB, add_file, add_node

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>.png"
MODELS: tuple[type[Model], ...] = (File, Blob, Replica, Node)


def path_of(model: type[Model], *parts: object) -> str:
    return "/".join(["/admin/master_app", str(model._meta.model_name), *map(str, parts), ""])


def text_of(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    html = response.content.decode().replace("\xa0", " ")
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


@pytest.fixture
def image() -> File:
    disk = {"capacity_bytes": 100 * GIB, "free_bytes": 60 * GIB, "used_bytes": 30 * GIB}
    add_node("8001", **disk)
    add_node("8002", silent_seconds=600, **disk)
    return add_file("beach.png", content=b"b" * 123_456, content_type="image/png")


def test_a_files_page_shows_everything_about_it(admin_client: Client, image: File) -> None:
    add_file("the same beach.png", content=b"b" * 123_456)
    html = admin_client.get(path_of(File, image.pk, "change")).content.decode()
    text = text_of(admin_client, path_of(File, image.pk, "change"))
    for expected in (
        image.blob.hash,
        image.blob.sha256,
        "120.6 KB",
        "(123,456 bytes)",
        "image/png",
    ):
        assert expected in text
    assert re.search(r"8001 Healthy \d s ago", text)
    assert "8002 Down 10 min ago" in text
    assert "the same beach.png" in text
    assert f'data-copy="{image.blob.hash}"' in html
    assert f'src="/thumbnails/{image.blob.hash}"' in html
    assert (
        f'href="http://127.0.0.1:8001/retrieve?hash={image.blob.hash}&amp;name=beach.png"' in html
    )


def test_an_unverified_record_says_who_claimed_it_and_offers_no_download(
    admin_client: Client,
) -> None:
    file_register(blob_hash="test123", name="claimed.bin", size=7, replicas=["8001"])
    file = File.objects.get(name="claimed.bin")
    text = text_of(admin_client, path_of(File, file.pk, "change"))
    assert "The client named 8001." in text
    assert "nothing to download" in text


def test_a_blobs_page_shows_its_replicas_and_names(admin_client: Client, image: File) -> None:
    text = text_of(admin_client, path_of(Blob, image.blob.pk, "change"))
    assert image.blob.sha256 in text
    assert "8002 Down" in text
    assert "beach.png" in text


def test_a_blob_with_many_names_shows_the_newest(admin_client: Client, image: File) -> None:
    File.objects.bulk_create(
        File(blob=image.blob, name=f"name {number}", created_at=image.created_at)
        for number in range(60)
    )
    html = admin_client.get(path_of(Blob, image.blob.pk, "change")).content.decode()
    assert "name 59" in html
    assert "beach.png" not in html
    assert "All 61 files" in html
    everything = admin_client.get(path_of(File), {"q": image.blob.hash}).content.decode()
    assert "61 results" in everything


def test_a_nodes_page_shows_state_fill_level_and_what_it_took_last(
    admin_client: Client, image: File
) -> None:
    node = Node.objects.get(node_id="8001")
    text = text_of(admin_client, path_of(Node, node.pk, "change"))
    assert "Healthy 40%" in text
    assert "They hold 30 GB" in text
    assert re.search(r"Heartbeat \d s ago", text)
    assert image.blob.hash[:10] in text


def test_a_nodes_page_shows_what_compression_saves(admin_client: Client, image: File) -> None:
    node = Node.objects.get(node_id="8001")
    path = path_of(Node, node.pk, "change")
    assert "Compression saves" not in text_of(admin_client, path)

    Node.objects.filter(pk=node.pk).update(stored_bytes=12 * GIB)

    assert "Compression saves 18 GB (60 %)" in text_of(admin_client, path)


def test_a_replicas_page_leads_to_blob_and_node(admin_client: Client, image: File) -> None:
    replica = Replica.objects.get(node__node_id="8001")
    html = admin_client.get(path_of(Replica, replica.pk, "change")).content.decode()
    assert path_of(Blob, image.blob.pk, "change") in html
    assert path_of(Node, replica.node.pk, "change") in html


@pytest.mark.parametrize("model", [model for model in MODELS if model is not File])
def test_nobody_adds_changes_or_deletes_what_the_system_owns(
    admin_client: Client, image: File, model: type[Model]
) -> None:
    record = model._default_manager.first()
    assert record is not None
    before = list(model._default_manager.values())
    assert admin_client.get(path_of(model, "add")).status_code == 403
    assert admin_client.post(path_of(model, "add"), {"name": "x"}).status_code == 403
    assert admin_client.post(path_of(model, record.pk, "change"), {"name": "x"}).status_code == 403
    assert admin_client.get(path_of(model, record.pk, "delete")).status_code == 403
    assert (
        admin_client.post(path_of(model, record.pk, "delete"), {"post": "yes"}).status_code == 403
    )
    action = {"action": "delete_selected", "_selected_action": [record.pk], "post": "yes"}
    admin_client.post(path_of(model), action)
    assert list(model._default_manager.values()) == before


@pytest.mark.parametrize("model", MODELS)
def test_no_page_offers_to_edit_what_the_system_owns(
    admin_client: Client, image: File, model: type[Model]
) -> None:
    record = model._default_manager.first()
    assert record is not None
    # Files can be deleted, and nodes drained; nothing is typed into a form.
    offered = {File: {"/delete/", 'name="action"'}, Node: {'name="action"'}}.get(model, set())
    for path in (path_of(model), path_of(model, record.pk, "change")):
        html = admin_client.get(path).content.decode()
        for offer in {"/add/", "/delete/", 'name="_save"', 'name="action"'} - offered:
            assert offer not in html


def test_a_file_is_neither_added_nor_changed(admin_client: Client, image: File) -> None:
    assert admin_client.post(path_of(File, "add"), {"name": "x"}).status_code == 403
    assert admin_client.post(path_of(File, image.pk, "change"), {"name": "x"}).status_code == 403
    image.refresh_from_db()
    assert image.name != "x"


def test_a_hostile_name_is_text_wherever_it_stands(admin_client: Client) -> None:
    add_node("8001")
    add_node("8002")
    file = add_file(HOSTILE, content=b"x", content_type="<b>image</b>/png")
    other = add_file("other.png", content=b"x")
    pages = (
        "/admin/",
        path_of(File),
        path_of(File, file.pk, "change"),
        path_of(File, other.pk, "change"),
        path_of(Blob, file.blob.pk, "change"),
    )
    for path in pages:
        html = admin_client.get(path).content.decode()
        assert "&lt;script&gt;alert(1)" in html, path
        assert "<script>alert(1)" not in html, path
        assert "<b>image" not in html, path
    html = admin_client.get(path_of(File), {"q": HOSTILE}).content.decode()
    assert "<script>alert(1)" not in html


def test_a_hostile_claim_is_text(admin_client: Client) -> None:
    file_register(blob_hash="test123", name="x", size=1, replicas=["<script>alert(1)"])
    file = File.objects.get(name="x")
    for path in (path_of(File), path_of(File, file.pk, "change"), path_of(Blob)):
        assert "<script>alert(1)" not in admin_client.get(path).content.decode()


def test_a_record_that_is_not_there_leads_back_to_the_dashboard(admin_client: Client) -> None:
    response = admin_client.get(path_of(File, 999, "change"))
    assert response.status_code == 302
    assert response["Location"] == "/admin/"


def test_the_dashboard_shows_totals_health_nodes_and_the_latest_files(
    admin_client: Client, image: File
) -> None:
    add_file("thin.txt", replicas=("8001",))
    add_file("gone.txt", replicas=())
    file_register(blob_hash="test123", name="claimed.bin", size=7, replicas=[])
    text = text_of(admin_client, "/admin/")
    assert "4 files" in text
    assert "3 verified blobs" in text
    assert "120.6 KB stored" in text
    assert "1 of 2 nodes healthy" in text
    for expected in (
        "Fully replicated 0",
        "Under-replicated 2",
        "Without a replica in reach 1",
        "Unverified 1",
    ):
        assert expected in text
    assert "Node 8001 http://127.0.0.1:8001 Healthy 40%" in text
    assert "Node 8002 http://127.0.0.1:8002 Down 40%" in text
    assert "Heartbeat 10 min ago" in text
    assert text.index("claimed.bin") < text.index("beach.png")


def test_the_dashboard_shows_what_compression_saves_on_all_nodes(
    admin_client: Client, image: File
) -> None:
    assert "saved by compression" not in text_of(admin_client, "/admin/")

    Node.objects.update(stored_bytes=12 * GIB)

    assert "36 GB (60 %) saved by compression, on all nodes" in text_of(admin_client, "/admin/")


def test_the_dashboard_of_an_empty_cluster_says_what_comes_next(admin_client: Client) -> None:
    text = text_of(admin_client, "/admin/")
    assert "No node has been heard of yet" in text
    assert "No files yet" in text


def test_the_dashboards_queries_do_not_grow_with_the_files(
    admin_client: Client, image: File
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            admin_client.get("/admin/")
        return len(captured)

    few = queries()
    for number in range(20):
        add_file(f"{number}.txt")
    assert queries() == few


def test_every_blob_is_counted_under_one_health(image: File) -> None:
    assert sum(count_by_health().values()) == Blob.objects.count()
    assert count_by_health()[ReplicaHealth.DEGRADED] == 1


def test_users_and_groups_can_be_edited(admin_client: Client) -> None:
    form = {
        "username": "sam",
        "usable_password": "true",
        "password1": "long-and-rare",
        "password2": "long-and-rare",
    }
    assert admin_client.post("/admin/auth/user/add/", form).status_code == 302
    assert User.objects.get(username="sam").check_password("long-and-rare")
    assert admin_client.post("/admin/auth/group/add/", {"name": "staff"}).status_code == 302
    assert Group.objects.filter(name="staff").exists()
    assert admin_client.get("/admin/auth/user/").status_code == 200


def test_every_link_of_the_sidebar_leads_somewhere(admin_client: Client) -> None:
    html = admin_client.get("/admin/").content.decode()
    sidebar = html.split('id="nav-sidebar-apps"')[1].split("</ol>")
    links = {link for part in sidebar for link in re.findall(r'href="(/[^"]*)"', part)}
    assert {path_of(model) for model in MODELS} <= links
    for link in links:
        assert admin_client.get(link).status_code == 200, link


def test_pages_load_everything_from_here(admin_client: Client, image: File) -> None:
    for path in ("/admin/", path_of(File), path_of(File, image.pk, "change")):
        html = admin_client.get(path).content.decode()
        loaded = re.findall(r'<(?:link|script|img)[^>]+(?:href|src)="([^"]+)"', html)
        assert loaded
        for address in loaded:
            assert address.startswith(("/static/", "/thumbnails/", "/admin/jsi18n/")), address
            if address.startswith("/static/"):
                assert finders.find(address.removeprefix("/static/")), address


def test_a_copy_on_a_node_that_is_down_is_not_counted_as_there(client: Client) -> None:
    add_node("8001")
    add_node("8002", silent_seconds=3600)
    file = add_file("report.pdf")

    assert count_by_health()[ReplicaHealth.DEGRADED] == 1
    assert file.blob.copies_in_reach() == 1
    assert "1 of 2 copies" in client.get("/").content.decode().replace("\xa0", " ")
