"""What is said of the machine, against memory that is taken on purpose."""

import subprocess
import sys
import types

import pytest
import torch
from checkout import ROOT

from finetune import hardware
from finetune.hardware import computes_bfloat16, peak_memory

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU it is the GPU's memory")


def test_the_peak_is_in_bytes_and_stays_when_memory_is_given_back():
    """In a process of its own, whose peak no other test has raised; what starts it is larger, which does not count."""
    program = (
        "import torch; from finetune.hardware import peak_memory as peak; print(peak()); "
        "taken = torch.ones(75_000_000); print(peak()); del taken; print(peak())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, cwd=ROOT)
    before, during, after = map(int, done.stdout.split())
    assert during - before == pytest.approx(300e6, rel=0.2)
    assert after == pytest.approx(during, rel=0.05)


def test_every_system_is_asked_in_its_own_way(monkeypatch, tmp_path):
    """
    Linux: kB in a file. macOS: bytes of `resource`; elsewhere its kB. Windows: no `resource`, but psutil, which
    accelerate brings.
    """
    monkeypatch.setattr(hardware, "STATUS", tmp_path / "status")
    resource = types.SimpleNamespace(getrusage=lambda who: types.SimpleNamespace(ru_maxrss=7), RUSAGE_SELF=0)
    monkeypatch.setitem(sys.modules, "resource", resource)
    for platform, peak in (("darwin", 7), ("freebsd14", 7 * 1024)):
        monkeypatch.setattr(sys, "platform", platform)
        assert peak_memory() == peak
    psutil = types.SimpleNamespace(
        Process=lambda: types.SimpleNamespace(memory_info=lambda: types.SimpleNamespace(peak_wset=123))
    )
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setitem(sys.modules, "psutil", psutil)
    assert peak_memory() == 123
    (tmp_path / "status").write_text("Name:\tpython\nVmPeak:\t  999 kB\nVmHWM:\t    5 kB\nVmRSS:\t    4 kB\n")
    assert peak_memory() == 5 * 1024


def test_bfloat16_is_said_to_be_fast_where_it_has_kernels(monkeypatch):
    for there in (True, False):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda there=there: there)
        assert computes_bfloat16() == (there and torch.backends.mkldnn.is_available())
