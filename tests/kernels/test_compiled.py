"""Kinds of processors, as the ledger notes them."""

import platform
from types import ModuleType

import numpy as np
import pytest

from pyama_dask.kernels import compiled


def test_the_instruction_set_is_one_that_this_machine_has():
    machine, _, name = compiled.instruction_set().partition(" ")
    assert machine == platform.machine()
    if machine == "x86_64":
        features = np._core._multiarray_umath.__cpu_features__
        assert features[{"avx512f": "AVX512F", "avx2": "AVX2", "avx": "AVX", "sse2": "SSE2"}[name]]


@pytest.mark.parametrize(
    ("features", "name"),
    [("+avx,+avx2,-avx512f,+sse2", "avx2"), ("+sse2,-avx", "sse2"), ("+neon,+fp-armv8", "neon"), ("", "")],
)
def test_the_widest_instructions_count(monkeypatch, features, name):
    class Target:
        def codegen(self):
            return self

        def magic_tuple(self):
            return "triple", "name", features

    monkeypatch.setattr(type(compiled.cpu_target), "target_context", Target())
    assert compiled.instruction_set() == f"{platform.machine()} {name}".strip()


def test_a_cache_of_unknown_form_holds_nothing(monkeypatch):
    cache = compiled.OptionalCache(test_the_widest_instructions_count)
    assert cache.signatures() == []
    monkeypatch.setattr(cache, "_cache", None)
    assert cache.signatures() == []


def test_code_for_another_processor_is_not_there(monkeypatch):
    """What the process has loaded, or the cache holds for its processor, is not lacking."""
    module = ModuleType("loops")
    module.used, module.unused = compiled.compiled(_one), compiled.compiled(_two)
    with monkeypatch.context() as patch:
        patch.setattr(compiled.OptionalCache, "_keys", lambda _: [])
        assert compiled.lacks_code(module) == ["_one", "_two"]
        module.used()
        assert compiled.lacks_code(module) == ["_two"]
        here = compiled.cpu_target.target_context.codegen().magic_tuple()
        patch.setattr(compiled.OptionalCache, "_keys", lambda _: [("types", ("triple", "name", ""), "digest")])
        assert compiled.lacks_code(module) == ["_two"]
        patch.setattr(compiled.OptionalCache, "_keys", lambda _: [("types", here, "digest")])
        assert compiled.lacks_code(module) == []


def _one():
    return 1


def _two():
    return 2
