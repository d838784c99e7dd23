"""The master's answers against its own OpenAPI schema, with requests that nobody thought of."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.cluster import Cluster

pytestmark = pytest.mark.cluster

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# How many requests each operation gets, of those that the schema allows and of those it does not.
EXAMPLES = {
    ("GET", "/get"): 40,
    ("GET", "/health"): 10,
    ("GET", "/list"): 10,
    ("POST", "/register"): 60,
    ("POST", "/seedream/generate"): 8,
    ("GET", "/seedream/jobs/{job_id}"): 20,
    ("GET", "/api/v1/files/"): 50,
    ("GET", "/api/v1/files/{id}/"): 20,
    ("DELETE", "/api/v1/files/{id}/"): 20,
    ("GET", "/api/v1/blobs/"): 50,
    ("GET", "/api/v1/blobs/{hash}/"): 20,
    ("GET", "/api/v1/nodes/"): 40,
    ("GET", "/api/v1/nodes/{node_id}/"): 20,
    ("GET", "/api/v1/repair/"): 10,
    ("GET", "/api/v1/repair/tasks/"): 40,
    ("GET", "/api/v1/collection/"): 10,
}


# There is nothing that a request could get wrong here.
WITHOUT_PARAMETERS = {"/health", "/list", "/api/v1/repair/", "/api/v1/collection/"}
# Added to a number, it is no file's: other tests use the same cluster.
NO_FILE = 10**9


def allowed() -> list[tuple[str, str, GenerationMode]]:
    return [(method, path, GenerationMode.POSITIVE) for method, path in EXAMPLES]


def forbidden() -> list[tuple[str, str, GenerationMode]]:
    return [
        (method, path, GenerationMode.NEGATIVE)
        for method, path in EXAMPLES
        if path not in WITHOUT_PARAMETERS
    ]


@pytest.fixture(scope="module")
def schema(cluster: Cluster) -> BaseSchema:
    """Return the master's schema, once there is something that its answers can show."""
    assert cluster.nodes[0].upload(b"something to show", "schema.txt").ok
    return schemathesis.openapi.from_url(f"{cluster.master.url}/api/v1/schema/?format=json")


@pytest.mark.parametrize(("method", "path", "mode"), [*allowed(), *forbidden()])
def test_answers_are_those_that_the_schema_promises(
    schema: BaseSchema, method: str, path: str, mode: GenerationMode
) -> None:
    operation = schema[path][method]

    @settings(
        max_examples=EXAMPLES[method, path],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        if method == "DELETE" and str(case.path_parameters.get("id", "")).isdigit():
            case.path_parameters["id"] = int(case.path_parameters["id"]) + NO_FILE
        case.call_and_validate(checks=CHECKS)

    check()


def test_every_operation_of_the_schema_is_tried(schema: BaseSchema) -> None:
    operations = {result.ok() for result in schema.get_all_operations()}

    assert {(found.method.upper(), found.path) for found in operations} == EXAMPLES.keys()
