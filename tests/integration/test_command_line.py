"""Commands, and wrong input: one line that names the thing and the way out."""

import os
import socket
import subprocess
import sys

import pytest
from harness.client import Client, trusting_anything
from harness.limits import within
from harness.program import BINARY, ROOT, command
from harness.wait import until
from ports import free_port


def write(folder, text):
    path = folder / "gatehouse.toml"
    path.write_text(text.replace("@FOLDER@", str(folder)).replace("@ADMIN@", f"{folder}/a.sock"))
    return str(path)


def test_version_names_what_it_is_made_of():
    done = command("version")
    assert done.returncode == 0
    for word in ("gatehouse", "OpenSSL", "nghttp2", "Boost"):
        assert word in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["proxy", "--help"],
                                       ["check", "--help"], ["certs", "--help"],
                                       ["certs", "list", "--help"], ["version", "--help"]])
def test_every_command_has_help(arguments):
    done = command(*arguments)
    assert done.returncode == 0 and done.stdout and not done.stderr


@pytest.mark.parametrize("arguments", [["nonsense"], ["run", "--nonsense"], ["proxy"],
                                       ["proxy", "--from", "a.test"], ["check", "a", "b"]])
def test_wrong_usage_is_2_and_one_or_two_lines(arguments):
    done = command(*arguments)
    assert done.returncode == 2, done.stderr
    assert 1 <= len(done.stderr.strip().splitlines()) <= 2 and not done.stdout


def test_check_prints_what_it_would_serve(tmp_path, config, origin):
    done = command("check", "--config", write(tmp_path, config.site(origin.address)))
    assert done.returncode == 0, done.stderr
    assert "example.test" in done.stdout and origin.address in done.stdout


def test_check_names_every_mistake_with_its_place(tmp_path, config, origin):
    text = ('[server]\nhtp = [":80"]\nworkers = "many"\n[timeouts]\nidle = "75 parsecs"\n'
            '[[site]]\nhosts = ["a.test"]\nupsteam = "localhost:1"\n')
    done = command("check", "--config", write(tmp_path, text))
    assert done.returncode == 2 and not done.stdout
    lines = done.stderr.strip().splitlines()
    for place, word in (("gatehouse.toml:2:", "http"), ("gatehouse.toml:3:", "workers"),
                        ("gatehouse.toml:5:", "idle"), ("gatehouse.toml:8:", "upstream")):
        assert any(place in line and word in line for line in lines), (place, lines)


def test_the_configuration_is_found_by_argument_then_environment(tmp_path, config, origin):
    good = write(tmp_path, config.site(origin.address))
    assert command("check", environment={"GATEHOUSE_CONFIG": good}).returncode == 0
    bad = command("check", "--config", str(tmp_path / "absent.toml"),
                  environment={"GATEHOUSE_CONFIG": good})
    assert bad.returncode == 2 and "absent.toml" in bad.stderr


def test_no_configuration_at_all_names_the_places(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "GATEHOUSE_CONFIG"}
    done = subprocess.run([BINARY, "check"], cwd=tmp_path, env=environment, capture_output=True,
                          text=True, timeout=10)
    assert done.returncode == 2 and "gatehouse.toml" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_imports_environment_and_files(tmp_path, config, origin):
    (tmp_path / "sites").mkdir()
    text = config.site("${TEST_ORIGIN}")
    head, site = text.split("[[site]]", 1)
    (tmp_path / "sites" / "one.toml").write_text("[[site]]" + site)
    path = write(tmp_path, 'import = ["sites/*.toml"]\n' + head)
    done = command("check", "--config", path, environment={"TEST_ORIGIN": origin.address})
    assert done.returncode == 0, done.stderr
    assert origin.address in done.stdout
    missing = command("check", "--config", path)
    assert missing.returncode == 2 and "TEST_ORIGIN" in missing.stderr
    assert "one.toml" in missing.stderr


def test_proxy_serves_without_a_file(tmp_path, origin):
    port = free_port()
    process = subprocess.Popen(
        [BINARY, "proxy", "--from", f"localhost:{port}", "--to", origin.address], cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path),
             "XDG_DATA_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)})
    try:
        process.terminate()
        _, err = process.communicate(timeout=within(10))
        # It may need a port or a folder that this test's user lacks: then it says so in a line.
        assert process.returncode in (0, 1, 2, -15)
        assert "Traceback" not in err and "terminate called" not in err
    finally:
        process.kill()
        process.wait()


def test_proxy_from_a_port_uses_an_internal_certificate(tmp_path, origin):
    port = free_port()
    process = subprocess.Popen(
        [BINARY, "proxy", "--from", f":{port}", "--to", origin.address], cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path),
             "XDG_DATA_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)})

    def answered():
        assert process.poll() is None, process.stderr.read()
        try:
            with Client(port, tls=trusting_anything(), name="localhost") as client:
                return client.get(host="localhost").status == 200
        except OSError:
            return False
    try:
        until(answered, "an answer over TLS")
    finally:
        process.terminate()
        process.wait(within(15))


def test_certs_list_shows_names_for_people_and_programs(gatehouse, config, origin):
    import json
    program = gatehouse(config.base() + '[[site]]\nhosts = ["inside.test"]\n'
                        f'upstream = "{origin.address}"\ncertificates = "internal"\n')
    done = command("certs", "list", "--config", str(program.config))
    assert done.returncode == 0, done.stderr
    assert "inside.test" in done.stdout or "NAME" in done.stdout.upper()
    machine = command("certs", "list", "--json", "--config", str(program.config))
    assert machine.returncode == 0, machine.stderr
    json.loads(machine.stdout)


def test_certs_list_without_a_running_program_says_so(tmp_path, config, origin):
    done = command("certs", "list", "--config", write(tmp_path, config.site(origin.address)))
    lines = done.stderr.strip().splitlines()
    assert done.returncode in (0, 1) and len(lines) <= 1


def refused(gatehouse, text, *words, status=(1, 2)):
    """The program ends at once; its last line holds every word and nothing looks like a crash."""
    program = gatehouse(text, wait=False)
    program.expected_exit = program.process.wait(within(10))
    log = program.log()
    assert program.expected_exit in status, log
    errors = [line for line in log.splitlines() if line.strip()]
    assert errors, "it says why"
    line = next((e for e in errors if all(str(w) in e for w in words)), None)
    assert line, f"no line with {words}:\n{log}"
    assert "terminate called" not in log and "what():" not in log
    return log


def test_a_port_in_use_is_named(gatehouse, config, origin):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # old connections do not count
        taken.bind(("127.0.0.1", config.https))
        taken.listen()
        refused(gatehouse, config.site(origin.address), f"127.0.0.1:{config.https}", status=(1,))


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_an_unwritable_storage_is_named(gatehouse, config, origin, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    refused(gatehouse, config.site(origin.address).replace("@FOLDER@/storage",
                                                           f"{tmp_path}/closed/storage"),
            f"{tmp_path}/closed/storage")


def test_a_storage_that_cannot_be_a_folder_is_named(gatehouse, config, origin, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    refused(gatehouse, config.site(origin.address).replace("@FOLDER@/storage",
                                                           f"{tmp_path}/file"),
            f"{tmp_path}/file")
    refused(gatehouse, config.site(origin.address).replace("@FOLDER@/storage",
                                                           "/proc/nowhere/storage"),
            "/proc/nowhere")


def test_a_missing_certificate_file_is_named(gatehouse, config, origin):
    refused(gatehouse, config.site(origin.address).replace(str(config.chain), "/absent/chain.pem"),
            "/absent/chain.pem")


def test_a_certificate_without_its_key_is_named(gatehouse, config, origin):
    text = config.site(origin.address)
    refused(gatehouse, text.replace(f'key = "{config.key}"\n', ""), "key", status=(2,))


def test_a_key_of_another_certificate_is_named(gatehouse, config, origin, authority, tmp_path):
    (tmp_path / "other.key").write_text(authority.issue(["x.test"])[1])
    refused(gatehouse, config.site(origin.address).replace(str(config.key),
                                                           f"{tmp_path}/other.key"),
            f"{tmp_path}/other.key")


@pytest.mark.parametrize("content", ["", "garbage", "-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_key_that_is_none_is_named(gatehouse, config, origin, tmp_path, content):
    (tmp_path / "bad.key").write_text(content)
    refused(gatehouse, config.site(origin.address).replace(str(config.key), f"{tmp_path}/bad.key"),
            f"{tmp_path}/bad.key")


def test_a_wrong_upstream_name_is_named_with_a_suggestion(gatehouse, config, origin):
    text = config.site("shp") + f'\n[upstream.shop]\nservers = ["{origin.address}"]\n'
    assert "shop" in refused(gatehouse, text, "shp", status=(2,))


def test_an_unknown_user_is_named(gatehouse, config, origin):
    if os.getuid() != 0:
        pytest.skip("only root drops to a user")
    refused(gatehouse, config.site(origin.address, server='user = "no-such-user"'), "no-such-user")


def test_a_missing_root_of_the_ca_is_named(gatehouse, config, origin):
    site = f'[[site]]\nhosts = ["a.test"]\nupstream = "{origin.address}"\n'
    refused(gatehouse, config.acme("https://127.0.0.1:1/dir", "/absent/root.pem", site),
            "/absent/root.pem")


def test_on_demand_without_ask_or_allow_is_a_mistake(gatehouse, config, ca, origin):
    refused(gatehouse, config.acme(ca.directory, ca.trust, '[[site]]\nhosts = ["*"]\n'
                                   'certificates = "on_demand"\n'
                                   f'upstream = "{origin.address}"\n'), "ask", status=(2,))


def test_an_upstream_that_does_not_resolve_is_502_and_named(gatehouse, config, origin):
    program = gatehouse(config.site("no-such-host.invalid:80"))
    with Client(config.http) as client:
        assert client.get().status in (502, 503)
    until(lambda: any("no-such-host.invalid" in line for line in
                      program.access_lines() + program.log().splitlines()), "the name in a log")


def test_the_quickstart_checks_itself():
    done = subprocess.run([sys.executable, "-B", str(ROOT / "tools/quickstart.py"), "--program",
                           BINARY, "--check"], capture_output=True, text=True,
                          timeout=within(60), cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Pebble Intermediate" in done.stdout and "Hello from the origin" in done.stdout


@pytest.mark.parametrize("arguments, words", [
    (["chekc"], "'chekc' is no command, did you mean 'check'?"),
    (["certs", "shwo", "a.test"], "'shwo' is no command, did you mean 'show'?"),
    (["notify", "everybody"], "'everybody' is no command"),
    (["certs"], "subcommand is required"), (["certs", "renew"], "NAME is required")])
def test_a_command_that_is_none_is_named(arguments, words):
    done = command(*arguments)
    assert done.returncode == 2 and words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
