"""Build the compiled parts: three Cython extensions and one plain C library of ONNX Runtime operators.

``OMNI_SDK_SANITIZE=address,undefined`` or ``OMNI_SDK_SANITIZE=thread`` builds them with the compiler's sanitizers;
`scripts/sanitize` does that and runs their tests.
"""

import os
import sys
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
SANITIZERS = {"address", "undefined", "thread"}


def sanitizers() -> list[str]:
    """What `OMNI_SDK_SANITIZE` asks for; a wrong word ends the build rather than a sanitizer in silence."""
    asked = [word for word in os.environ.get("OMNI_SDK_SANITIZE", "").split(",") if word]
    if not set(asked) <= SANITIZERS or {"address", "thread"} <= set(asked):
        sys.exit(f"Expected address, undefined or both, or thread, got {','.join(asked)!r} - at OMNI_SDK_SANITIZE")
    if asked and sys.platform == "win32":
        sys.exit("Expected GCC or Clang to sanitize with, got MSVC - at OMNI_SDK_SANITIZE")
    return asked


def flags() -> tuple[list[str], list[str]]:
    """For the compiler and for the linker. None names the build machine's processor: kernels choose at run time."""
    asked = sanitizers()
    if sys.platform == "win32":
        return ["/O2", "/std:c11"], []
    if not asked:
        return ["-O3", "-fvisibility=hidden"], []
    sanitize = [f"-fsanitize={','.join(asked)}", "-fno-sanitize-recover=all"]
    return ["-O1", "-g", "-fno-omit-frame-pointer", "-fvisibility=hidden", *sanitize], sanitize


COMPILE, LINK = flags()


class Build(build_ext):
    """Builds `_kernels` too, which is a library that ONNX Runtime loads, not a module that Python imports."""

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return ext.export_symbols if ext.name.endswith("._kernels") else super().get_export_symbols(ext)


def cython(name: str) -> Extension:
    return Extension(
        f"omni_sdk.{name}",
        [f"ext/{name}.pyx"],
        include_dirs=[numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_22_API_VERSION")],
        extra_compile_args=COMPILE,
        extra_link_args=LINK,
    )


kernels = Extension(
    "omni_sdk._kernels",
    sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "ext" / "kernels").glob("*.c")),
    depends=sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "ext" / "kernels").glob("*.h")),
    extra_compile_args=COMPILE,
    extra_link_args=LINK,
    libraries=[] if sys.platform == "win32" else ["m"],
    export_symbols=["RegisterCustomOps"],
)

setup(
    ext_modules=[
        *cythonize(
            [cython("_buffers"), cython("_runs"), cython("_keys")],
            compiler_directives={"language_level": 3, "freethreading_compatible": True},
        ),
        kernels,
    ],
    cmdclass={"build_ext": Build},
)
