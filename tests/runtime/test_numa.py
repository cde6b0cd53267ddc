"""Several memory nodes: who runs where, what lies where, and the same bits."""

from __future__ import annotations

import ctypes
import os
import platform

import numpy as np
import pytest

from slotmux.runtime import model as model_module
from slotmux.runtime import numa
from slotmux.runtime.driver import logits_of
from slotmux.runtime.errors import ConfigError
from slotmux.runtime.model import ModelConfig, load_model
from slotmux.runtime.numa import (
    INTERLEAVE,
    PAGE,
    PREFERRED,
    Node,
    Placement,
    chosen_nodes,
    deal_threads,
    numa_nodes,
    parse_list,
    place,
)

ALLOWED = sorted(os.sched_getaffinity(0))


def topology(folder, **cpulists):
    """A system's files: node0="0-3" and so on."""
    (folder / "online").write_text(",".join(name[4:] for name in cpulists) + "\n")
    for name, cpus in cpulists.items():
        (folder / name).mkdir()
        (folder / name / "cpulist").write_text(cpus + "\n")
    return folder


@pytest.mark.parametrize(
    ("text", "numbers"), [("0-3,8", [0, 1, 2, 3, 8]), ("", []), ("\n", []), ("5", [5])]
)
def test_the_kernels_lists(text, numbers):
    assert parse_list(text) == numbers


def test_nodes_without_cpus_for_this_process_are_left_out(tmp_path):
    first = ALLOWED[0]
    nodes = numa_nodes(topology(tmp_path, node0=f"{first}", node2="", node4="9000-9003"))
    assert nodes == [Node(0, frozenset({first}))]


def test_a_system_that_tells_nothing_has_one_node(tmp_path):
    assert numa_nodes(tmp_path / "none") == [Node(0, frozenset(ALLOWED))]


def test_words(tmp_path):
    first = ALLOWED[0]
    folder = topology(tmp_path, node0="9000", node3=f"{first}")
    own = Node(3, frozenset({first}))
    assert chosen_nodes("", folder) == chosen_nodes("numactl", folder) == []
    assert chosen_nodes("distribute", folder) == [own]
    assert chosen_nodes("isolate", folder) == chosen_nodes("isolate:3", folder) == [own]
    with pytest.raises(ConfigError, match=r"no node 1 to run on; there are: 3"):
        chosen_nodes("isolate:1", folder)
    for word in ("mirror", "distribute:1", "isolate:", "isolate:x"):
        with pytest.raises(ConfigError, match="must be"):
            chosen_nodes(word, folder)


def test_threads_are_dealt_by_cpus():
    four, two = Node(0, frozenset(range(4))), Node(1, frozenset(range(4, 6)))
    assert deal_threads([four, two], 6) == [4, 2]
    assert deal_threads([four, two], 3) == [2, 1]
    assert deal_threads([four, two], 1) == [1, 0]
    placement = Placement.over([four, two], 1)
    assert (placement.nodes, placement.groups) == ((four,), (1,))
    both = Placement.over([four, two], 6)
    assert both.cpus(pinned=False) == [four.cpus] * 4 + [two.cpus] * 2
    assert both.cpus(pinned=True) == [{0}, {1}, {2}, {3}, {4}, {5}]


def test_parts_of_a_matrix_are_those_that_its_threads_own(monkeypatch):
    placed = []
    monkeypatch.setattr(numa, "place", lambda *arguments: placed.append(arguments))
    placement = Placement((Node(0, frozenset({0})), Node(5, frozenset({1}))), (1, 3))
    placement.share(1000, 400)
    placement.spread(7, 9)
    assert placed == [
        (1000, 100, PREFERRED, [0]),
        (1100, 300, PREFERRED, [5]),
        (7, 9, INTERLEAVE, [0, 5]),
    ]


def policy_at(address):
    """(policy, nodes' bits) of the page at an address."""
    policy, mask = ctypes.c_int(), (ctypes.c_ulong * 16)()
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.syscall(239, ctypes.byref(policy), mask, ctypes.c_ulong(1024),
                        ctypes.c_void_p(address), ctypes.c_ulong(2))  # fmt: skip
    assert done == 0, os.strerror(ctypes.get_errno())
    return policy.value, mask[0]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of get_mempolicy")
def test_the_system_is_asked_for_whole_pages_only():
    memory = np.ones(8 * PAGE, np.uint8)
    address = -(-memory.ctypes.data // PAGE) * PAGE
    if not place(address + 1, 3 * PAGE, INTERLEAVE, [0]):
        pytest.skip("this system places no memory")
    assert policy_at(address)[0] == 0
    assert policy_at(address + PAGE) == policy_at(address + 2 * PAGE) == (INTERLEAVE, 1)
    assert policy_at(address + 3 * PAGE)[0] == 0
    assert (memory == 1).all()
    assert place(address + 1, PAGE, PREFERRED, [0])  # no whole page: nothing to do


def test_what_the_system_refuses_is_said_and_memory_stays(caplog):
    memory = np.ones(2 * PAGE, np.uint8)
    address = -(-memory.ctypes.data // PAGE) * PAGE
    assert not place(address, PAGE, PREFERRED, [1000])
    assert "cannot be placed" in caplog.text
    assert (memory == 1).all()


@pytest.mark.parametrize("model", ["llama", "qwen35moe"])
def test_two_nodes_compute_the_same_bits(tiny_model_path, kernel_cache_dir, monkeypatch, model):
    """Two groups of threads, each on its CPUs, on memory that is all node 0's."""
    nodes = [Node(0, frozenset(ALLOWED[:1])), Node(0, frozenset(ALLOWED[-1:]))]
    prompt, path = list(range(3, 40)), tiny_model_path(model)

    def logits(**options):
        config = ModelConfig(n_threads=3, n_ctx=64, kernel_cache=kernel_cache_dir, **options)
        loaded = load_model(path, config)
        try:
            return logits_of(loaded, prompt, 7), loaded.team.n_groups
        finally:
            loaded.close()

    plain, n_groups = logits()
    assert n_groups == 1
    monkeypatch.setattr(model_module, "chosen_nodes", lambda numa: nodes if numa else [])
    try:
        placed, n_groups = logits(numa="distribute", pin_threads=True)
    finally:
        os.sched_setaffinity(0, ALLOWED)
    assert n_groups == 2
    assert np.array_equal(plain, placed)
