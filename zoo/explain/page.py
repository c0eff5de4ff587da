"""The page's files brought together: one that runs by opening it, without a server."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_SOURCES = _HERE / "page"
_RUNTIME = _HERE / "runtime"
#: The parts of onnxruntime-web, and what the page calls them.
_WASM, _GLUE, _ORT = (
    "ort-wasm-simd-threaded.wasm.gz",
    "ort-wasm-simd-threaded.mjs",
    "ort.wasm.min.mjs",
)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _modules() -> dict[str, str]:
    """Return the page's modules by the name that they are imported under."""
    found = {
        f"zoo/{path.relative_to(_SOURCES).as_posix()}": path.read_text("utf-8")
        for path in sorted(_SOURCES.rglob("*.js"))
    }
    lines, names = [], {}
    for kind in ("input", "view"):
        files = [name for name in found if name.startswith(f"zoo/{kind}s/")]
        made = [f"{kind}{number}" for number in range(len(files))]
        lines += [
            f'import {{ {kind} as {own} }} from "{file}";'
            for own, file in zip(made, files, strict=True)
        ]
        names[f"{kind}s"] = f"[{', '.join(made)}]"
    lines.append(f"export const inputs = {names['inputs']};")
    lines.append(f"export const views = {names['views']}.sort((a, b) => a.order - b.order);")
    found["zoo/sections.js"] = "\n".join(lines)
    return found


def _scripts(data: dict[str, Any], model: bytes) -> dict[str, str]:
    """Return the scripts that hold what the page runs on, by their files' names."""
    packed = (_RUNTIME / _WASM).read_bytes()
    runtime = {"wasm": _base64(packed), "glue": _base64((_RUNTIME / _GLUE).read_bytes())}
    # No text in it may end the script that it stands in.
    texts = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return {
        "net.js": f"ZOO.data = {texts};\nZOO.model = {json.dumps(_base64(model))};\n",
        "runtime.js": "".join(f"ZOO.{k} = {json.dumps(v)};\n" for k, v in runtime.items()),
    }


def write_page(data: dict[str, Any], model: bytes, out: Path, *, single_file: bool) -> None:
    """Write a page.

    Args:
        data: What it shows, as plain data.
        model: The net as ONNX.
        out: A folder that is there, or of a single file its path.
        single_file: Whether all of it is in one file.
    """
    scripts = _scripts(data, model)
    modules = {"ort": (_RUNTIME / _ORT).read_text("utf-8"), **_modules()}
    imports = {
        name: f"data:text/javascript;base64,{_base64(text.encode('utf-8'))}"
        for name, text in modules.items()
    }
    if single_file:
        included = "\n".join(f"<script>\n{text}</script>" for text in scripts.values())
    else:
        included = "\n".join(f'<script src="{name}"></script>' for name in scripts)
        for name, text in scripts.items():
            (out / name).write_text(text, "utf-8")
        (out / "LICENSE-onnxruntime.txt").write_bytes((_RUNTIME / "LICENSE").read_bytes())
    page = (_SOURCES / "index.html").read_text("utf-8")
    for name, text in {
        "title": html.escape(str(data["title"])),
        "style": (_SOURCES / "style.css").read_text("utf-8"),
        "imports": json.dumps({"imports": imports}),
        "scripts": included,
    }.items():
        page = page.replace(f"{{{{ {name} }}}}", text)
    target = out if single_file else out / "index.html"
    target.write_text(page, "utf-8")
