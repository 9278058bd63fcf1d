"""Python runs this at its start, where the soft device's folder is on its path."""

from __future__ import annotations

import ctypes
import importlib.abc
import importlib.util
import os
import re
import sys

# loaded by their full path and before anybody asks: whoever asks for them by name, gets these
for _path in os.environ["SOFTDEVICE_LIBRARIES"].split(os.pathsep):
    ctypes.CDLL(_path, mode=ctypes.RTLD_GLOBAL)

if "SOFTDEVICE_WITHOUT" in os.environ:  # as where CuPy was installed without that library
    from cuda import pathfinder

    _load = pathfinder.load_nvidia_dynamic_lib

    def _load_if_there(name):
        if name == os.environ["SOFTDEVICE_WITHOUT"]:
            raise pathfinder.DynamicLibNotFoundError(f'Failure finding "lib{name}.so"\nand where it was looked for')
        return _load(name)

    pathfinder.load_nvidia_dynamic_lib = _load_if_there

_INCLUDE = re.compile(r"^\s*#\s*include.*$", re.M)
_KERNEL = re.compile(r"\b__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(")


def _compile(source, options=(), arch=None, filename="kern.cu", name_expressions=None, *_args, **_kwargs):
    """In place of CuPy's way through NVRTC: an 'image' that says where the host's code is."""
    from hostcuda.build import build_library

    names = _KERNEL.findall(source)
    if len(names) != 1 or name_expressions:
        raise NotImplementedError(f"the soft device compiles sources of one plain kernel; this one has {names}")
    defines = "".join(f"#define {o[2:].replace('=', ' ')}\n" for o in options if o.startswith("-D"))
    return f"SOFTDEVICE:{build_library(defines + _INCLUDE.sub('', source), names[0])}\0".encode(), {}


class _AfterCompiler(importlib.abc.MetaPathFinder):
    """Waits for `cupy.cuda.compiler`, lets it load, and puts `_compile` in."""

    def find_spec(self, name, path, target=None):
        if name != "cupy.cuda.compiler":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            if not callable(getattr(module, "_compile_using_nvrtc_no_warning", None)):
                raise ImportError("this CuPy compiles in another way; see tests/softdevice/sitecustomize.py")
            module._compile_using_nvrtc_no_warning = _compile

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _AfterCompiler())
