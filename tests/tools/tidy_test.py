"""tools/tidy.py finds each kind of mistake, and nothing in files that are right."""

import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import tidy  # noqa: E402

HEADER = "// What it is.\n//\n// Not what it is not. Control thread.\n#pragma once\n"


def findings(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tidy.check(folder)


def test_a_right_tree_has_no_finding(tmp_path):
    assert findings(tmp_path, {
        "base/error.hpp": HEADER + "\n#include <string>\n\nint depth();\n",
        "proxy/router.cpp": '#include "base/error.hpp"\n#include "http/rules.hpp"\n',
        "config/load.cpp": "#include <toml++/toml.h>\n",
        "admin/server.hpp": HEADER + "#include <boost/beast/http/basic_parser.hpp>\n",
        "http/http2_session.cpp": "#include <nghttp2/nghttp2.h>\n",
        "acme/jose.cpp": "#include <openssl/evp.h>\n",
        "acme/dns/message.cpp": "#include <ldns/ldns.h>\n",
        "base/fetch.cpp": "#include <curl/curl.h>\n",
        "base/log.cpp": "#include <spdlog/spdlog.h>\n",
        "base/task.hpp": HEADER + "struct P {\n  Task get_return_object() noexcept;\n};\n",
        "app/call.cpp": "void f() {\n  return x.get_value();\n}\nauto e = s.get_executor();\n",
        "CMakeLists.txt": "gatehouse_library(tls FLOORS base config LIBRARIES OpenSSL::SSL)\n",
    }) == []


@pytest.mark.parametrize("name, text, expected", [
    ("base/a.cpp", '#include "config/load.hpp"\n', "base/ may not include config/"),
    ("proxy/a.cpp", '#include "acme/manager.hpp"\n', "proxy/ may not include acme/"),
    ("acme/a.cpp", '#include "proxy/server.hpp"\n', "acme/ may not include proxy/"),
    ("tls/a.cpp", '#include "http/rules.hpp"\n', "tls/ may not include http/"),
    ("admin/a.cpp", '#include "app/main.hpp"\n', "admin/ may not include app/"),
    ("proxy/a.cpp", '#include "router.hpp"\n', "include by the path from the root"),
    ("proxy/a.cpp", '#include "../tls/stream.hpp"\n', "include by the path from the root"),
    ("config/load.hpp", HEADER + "#include <toml++/toml.h>\n", "toml++ is fenced"),
    ("app/a.cpp", "#include <toml.hpp>\n", "toml++ is fenced"),
    ("http/http1_server.cpp", "#include <nghttp2/nghttp2.h>\n", "nghttp2 is fenced"),
    ("http/http2_session.hpp", HEADER + "#include <nghttp2/nghttp2.h>\n", "nghttp2 is fenced"),
    ("http/http1_parser.cpp", "#include <boost/beast/http.hpp>\n", "Beast is fenced"),
    ("acme/client.cpp", "#include <openssl/evp.h>\n", "OpenSSL is fenced"),
    ("http/a.cpp", "  #  include <boost/asio/ssl.hpp>\n", "OpenSSL is fenced"),
    ("acme/client.cpp", "#include <curl/curl.h>\n", "libcurl is fenced"),
    ("acme/client.cpp", "#include <ldns/ldns.h>\n", "ldns is fenced"),
    ("proxy/server.cpp", "#include <spdlog/spdlog.h>\n", "spdlog is fenced"),
    ("base/a.cpp", "x" * 101 + "\n", "101 columns"),
    ("base/a.cpp", "int a; \n", "white space at the end"),
    ("base/a.cpp", "\tint a;\n", "a tab"),
    ("base/a.cpp", "int a;", "no newline"),
    ("base/a.cpp", "// TO" "DO: later\n", "unfinished work"),
    ("tools/a.py", "# FIX" "ME\n", "unfinished work"),
    ("base/a.hpp", "#pragma once\n", "a header opens with what it is"),
    ("base/a.hpp", "", "a header opens with what it is"),
    ("base/a.hpp", "// What.\nint a;\n", "no #pragma once"),
    ("base/a.hpp", HEADER + "using namespace std;\n", "using namespace in a header"),
    ("base/a.hpp", HEADER + "  const std::string& get_name() const;\n", "get_name"),
    ("base/a.cpp", "int Class::get_depth() { return 0; }\n", "get_depth"),
    ("base/a.cpp", "[[nodiscard]] int get_depth();\n", "get_depth"),
    ("base/util.hpp", HEADER, "'util' in a file name"),
    ("base/string_helper.cpp", "", "'helper' in a file name"),
    ("tests/common/a.cpp", "", "a folder named 'common'"),
    ("base/impl.cpp", "", "'impl' in a file name"),
    ("base/long.cpp", "int a;\n" * 601, "601 lines, at most 600"),
    ("CMakeLists.txt", "gatehouse_library(acme FLOORS base proxy LIBRARIES x)\n",
     "acme may not link proxy"),
])
def test_a_mistake_is_found_once_and_named(tmp_path, name, text, expected):
    found = findings(tmp_path, {name: text})
    assert [f for f in found if expected in f.text and not f.warning], found
    assert len({f.text for f in found}) <= 2


def test_a_long_file_warns_before_it_fails(tmp_path):
    found = findings(tmp_path, {"base/long.cpp": "int a;\n" * 450, "tests/base/x.cpp": "\n" * 900})
    assert [(f.path, f.warning) for f in found] == [("base/long.cpp", True)]


def test_the_exit_status_follows_the_mistakes(tmp_path, capsys):
    (tmp_path / "base").mkdir()
    (tmp_path / "base/a.cpp").write_text("int a;\n")
    assert tidy.main([str(tmp_path)]) == 0
    (tmp_path / "base/a.cpp").write_text('#include "app/b.hpp"\n')
    assert tidy.main([str(tmp_path)]) == 1
    assert "base/a.cpp:1: base/ may not include app/" in capsys.readouterr().out
