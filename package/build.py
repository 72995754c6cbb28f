#!/usr/bin/env python3
"""Builds the package that Azure runs: the static binary, host.json and the function folders, in one zip.

    package/build.py                      builds target/package/sentinel-connector-VERSION-SHA.zip
    package/build.py --base-url URL       ... and writes its address into README.md and azuredeploy.json

The same commit and the same compiler make the same bytes, wherever they are built. URL is the folder that
the file will be uploaded to, such as https://github.com/contoso/sentinel-connector/releases/download/v1.0.0.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tomllib
import venv
import zlib
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
TARGET = "x86_64-unknown-linux-musl"
BINARY = "sentinel-connector"
# Without the feature `simulator`: what is deployed plays nobody, and makes no certificates.
FEATURES = ["--no-default-features"]
# What is uploaded to a Function App and started there has to be small. OpenTelemetry, the page and the
# command line's forms took it past 6 MB.
LIMIT = 6_500_000
PORTAL = "https://portal.azure.com/#create/Microsoft.Template"
BUTTON = "https://aka.ms/deploytoazurebutton"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", metavar="URL", help="where the package will be; written into README and template")
    parser.add_argument("--target-dir", type=Path, default=ROOT / "target", help="where cargo builds (default: target)")
    arguments = parser.parse_args()
    if arguments.base_url and not re.fullmatch(r"https://[^\s?#]+", arguments.base_url):
        parser.error("--base-url has to be an https:// address without query")

    target_dir = arguments.target_dir.resolve()
    tools(target_dir / "package-tools")
    binary = build(target_dir)
    package = assemble(ROOT, binary.read_bytes(), target_dir / "package")
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    size = package.stat().st_size
    print(f"package  {package}")
    print(f"size     {size:,} bytes")
    print(f"sha256   {digest}")
    print(f"compiler {output('rustc', '--version')}")
    if size > LIMIT:
        sys.exit(f"package/build.py: the package is larger than {LIMIT:,} bytes")
    if arguments.base_url:
        link = write_links(ROOT, arguments.base_url.rstrip("/"), package.name, digest)
        print(f"link     {link}")


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def tools(folder):
    """Puts the tools of requirements.txt into a virtual environment, and this process into it."""
    requirements = ROOT / "package" / "requirements.txt"
    stamp = folder / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        venv.create(folder, with_pip=True, clear=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--requirement", requirements], check=True)
        shutil.copy(requirements, stamp)
    os.environ["PATH"] = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    if Path(sys.prefix).resolve() != folder.resolve():
        python = folder / "bin" / "python"
        os.execv(python, [python, __file__, *sys.argv[1:]])


def build(target_dir):
    """The static binary, with no trace of where it was built."""
    if shutil.which("rustup"):
        subprocess.run(["rustup", "--quiet", "target", "add", TARGET], check=True, cwd=ROOT)
    subprocess.run(["cargo", "fetch", "--locked", "--quiet", "--target", TARGET], check=True, cwd=ROOT)
    cargo_home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    places = {ROOT: "/src", target_dir: "/target"}
    places |= {folder: "/crates" for folder in (cargo_home / "registry" / "src").iterdir()}
    flags = [f"--remap-path-prefix={place}={name}" for place, name in places.items()]
    c_flags = [f"-ffile-prefix-map={place}={name}" for place, name in places.items()]
    environment = {
        **{name: value for name, value in os.environ.items() if name != "RUSTFLAGS"},
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags),
        "CARGO_TARGET_DIR": str(target_dir),
        "CFLAGS": " ".join(c_flags),
    }
    command = ["cargo", "zigbuild", "--locked", "--profile", "deploy", "--target", TARGET, "--bin", BINARY]
    subprocess.run([*command, *FEATURES], check=True, cwd=ROOT, env=environment)
    return target_dir / TARGET / "deploy" / BINARY


def contents(root):
    """The files beside the binary: what .funcignore keeps."""
    kept = [line[2:].strip() for line in (root / ".funcignore").read_text().splitlines() if line.startswith("!/")]
    for name in kept:
        if name == BINARY:
            continue
        path = root / name
        yield from (file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def assemble(root, binary, folder):
    """Writes the zip, and names it by version and content."""
    files = {file.relative_to(root).as_posix(): (file.read_bytes(), 0o644) for file in contents(root)}
    files[BINARY] = (binary, 0o755)
    package = zipped(files)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    digest = hashlib.sha256(package).hexdigest()
    path = folder / f"{BINARY}-{version(root)}-{digest[:12]}.zip"
    path.write_bytes(package)
    return path


def zipped(files):
    """A zip of {name: (content, mode)}. Its bytes depend on nothing else: names are in order, all times are the
    oldest one there is, and the compressor is pinned."""
    from zopfli import ZOPFLI_FORMAT_DEFLATE, ZopfliCompressor

    version_needed, no_flags, deflated, midnight, first_of_1980 = 20, 0, 8, 0, 1 << 5 | 1
    unix = 3 << 8 | version_needed
    entries, directory = b"", b""
    for path, (content, mode) in sorted(files.items()):
        compressor = ZopfliCompressor(ZOPFLI_FORMAT_DEFLATE, iterations=5)
        packed = compressor.compress(content) + compressor.flush()
        name = path.encode("ascii")
        common = struct.pack(
            "<5H3L2H",
            *(version_needed, no_flags, deflated, midnight, first_of_1980),
            *(zlib.crc32(content), len(packed), len(content)),
            *(len(name), 0),
        )
        attributes = (stat.S_IFREG | mode) << 16
        directory += b"PK\1\2" + struct.pack("<H", unix) + common
        directory += struct.pack("<3H2L", 0, 0, 0, attributes, len(entries)) + name
        entries += b"PK\3\4" + common + name + packed
    count = len(files)
    end = struct.pack("<4H2LH", 0, 0, count, count, len(directory), len(entries), 0)
    return entries + directory + b"PK\5\6" + end


def version(root):
    return tomllib.loads((root / "Cargo.toml").read_text())["package"]["version"]


def write_links(root, base_url, name, digest):
    """Writes where the package is into the template, and the button that leads there into the README."""
    link = f"{base_url}/{name}"
    template = root / "azuredeploy.json"
    replace(template, r'^    "package": ".*"', f'    "package": {json.dumps(link)}')
    folder = templates(base_url)
    form = f"{folder}/createUiDefinition.json"
    uri = f"{PORTAL}/uri/{quote(f'{folder}/azuredeploy.json', safe='')}/createUIDefinitionUri/{quote(form, safe='')}"
    text = f"[![Deploy to Azure]({BUTTON})]({uri})\n\nPackage: <{link}>, SHA-256 `{digest}`."
    replace(root / "README.md", r"(?<=^<!-- deploy -->\n)(?s:.*)(?=\n<!-- /deploy -->$)", text)
    return link


def templates(base_url):
    """The portal reads templates by the browser, which the release files of GitHub don't allow."""
    release = re.fullmatch(r"https://github\.com/([^/]+/[^/]+)/releases/download/([^/]+)", base_url)
    return f"https://raw.githubusercontent.com/{release[1]}/{release[2]}" if release else base_url


def replace(file, pattern, text):
    changed, count = re.subn(pattern, lambda _: text, file.read_text(), flags=re.MULTILINE)
    if count != 1:
        sys.exit(f"package/build.py: {file.name} has {count} places for the link, not 1")
    file.write_text(changed)


if __name__ == "__main__":
    main()
