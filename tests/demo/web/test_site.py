"""What stops `ttt demo --web`, in one sentence each, before any work is lost."""

import pytest
from modeling_fixtures import tiny_model
from typer.testing import CliRunner

from spaces_demo.web import site
from ttt_cli import app


def test_a_folder_with_files_is_refused(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(FileExistsError, match="not empty"):
        site.write_site(tmp_path, tmp_path)


def test_an_adapter_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ttt merge"):
        CliRunner().invoke(
            app,
            ["demo", "--web", str(tmp_path / "page"), "--adapter", "a=b"],
            catch_exceptions=False,
            standalone_mode=False,
        )


def test_npm_that_is_missing_or_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"nodejs\.org"):
        site.install_packages(tmp_path / "without")
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error ENOTFOUND registry' >&2\nexit 1\n")
    npm.chmod(0o755)
    with pytest.raises(RuntimeError, match=r"ENOTFOUND registry.*in reach"):
        site.install_packages(tmp_path / "failing")


def test_without_the_exporter_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(site.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"text-to-talk\[edge\]"):
        site.write_site(tmp_path / "page", tmp_path)


def test_an_export_without_a_codec_is_refused(tmp_path):
    tiny_model().config.save_pretrained(tmp_path)
    tiny_model().generation_config.save_pretrained(tmp_path)
    (tmp_path / "onnx").mkdir()
    (tmp_path / site.MANIFEST).write_text('{"model": {}, "sha256": {}}')
    with pytest.raises(ValueError, match="no graphs of a codec"):
        site.write_model(tmp_path, tmp_path / "model")
    (tmp_path / site.MANIFEST).write_text('{"model": {}, "sha256": {')
    with pytest.raises(ValueError, match="not the manifest of an export"):
        site.write_model(tmp_path, tmp_path / "model")
    assert not (tmp_path / "model").exists()
