#!/usr/bin/env bash
# `make install` as a stranger meets it: build the echo server against what was installed, by pkg-config and by CMake,
# against the shared and the static library, and see each one listen and end.
set -euo pipefail
cd "$(dirname "$0")/../.."
stage=$PWD/build/stage
rm -rf "$stage"

runs() {
  local line status=0
  coproc program { exec "$@" --port 0; }
  local pid=$program_PID
  read -r -t 20 line <&"${program[0]}" || { echo "installcheck: $1 says nothing" >&2; kill -9 "$pid"; return 1; }
  [[ $line =~ ^listening\ on\ ws://.+:[0-9]+$ ]] || { echo "installcheck: $1 says '$line'" >&2; kill -9 "$pid"; return 1; }
  kill "$pid"
  wait "$pid" || status=$?
  [ "$status" -eq 0 ] || { echo "installcheck: $1 ended with status $status" >&2; return 1; }
  echo "ok   ${1#"$stage"/}"
}

for libdir in lib lib/multi-arch; do
  prefix=$stage/${libdir//\//-}
  make --no-print-directory -s install PREFIX="$prefix" LIBDIR="$libdir"
  export PKG_CONFIG_PATH=$prefix/$libdir/pkgconfig LD_LIBRARY_PATH=$prefix/$libdir
  flags=-std=c11
  # shellcheck disable=SC2046,SC2086  # flags are words
  {
    ${CC:-cc} $flags examples/echo.c -o "$prefix/shared" $(pkg-config --cflags --libs libwsx)
    ${CC:-cc} $flags $(pkg-config --cflags libwsx) examples/echo.c -o "$prefix/static" "$prefix/$libdir/libwsx.a" \
      $(pkg-config --static --libs-only-l libwsx | sed 's/-lwsx//')
  }
  runs "$prefix/shared"
  runs "$prefix/static"
  cmake -S tests/install -B "$prefix/cmake" -Dlibwsx_DIR="$prefix/$libdir/cmake/libwsx" -DCMAKE_C_COMPILER="${CC:-cc}" --log-level=ERROR >/dev/null
  cmake --build "$prefix/cmake" >/dev/null
  runs "$prefix/cmake/cmake-wsx"
  runs "$prefix/cmake/cmake-wsx_static"
done

# DESTDIR stands before everything, and is written into nothing.
make --no-print-directory -s install DESTDIR="$stage/destdir" PREFIX=/usr
[ -e "$stage/destdir/usr/lib/libwsx.so" ] && [ -e "$stage/destdir/usr/include/libwsx.h" ]
if grep -r "$stage" "$stage/destdir/usr/lib/pkgconfig" "$stage/destdir/usr/lib/cmake"; then
  echo "installcheck: DESTDIR is written into an installed file" >&2
  exit 1
fi
echo "ok   DESTDIR"
