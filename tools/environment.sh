#!/usr/bin/env bash
# Make an environment beside .venv that has all of it, and some packages in place of its own or added to them.
#
# Usage: tools/environment.sh NAME REQUIREMENT...
# It lies in build/environments/NAME, and is left alone while .venv and the requirements are the same.
set -euo pipefail
cd "$(dirname "$0")/.."

name=$1
shift
folder=build/environments/$name
key="$* $(cat .venv/.setup-* tools/environment.sh 2>/dev/null | sha256sum)"
[[ -f $folder/.key && $(<"$folder/.key") == "$key" ]] && exit 0
rm -rf "$folder"
.venv/bin/python -m venv --without-pip "$folder"
packages=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
main=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# Whatever these need besides themselves comes from .venv: its packages are found after those that are installed here.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target "$packages" "$@"
printf 'import site; site.addsitedir(r"%s")\n' "$main" >"$packages/zz_main.pth"
# Programs are looked up beside the interpreter first.
for program in .venv/bin/{aefm-wrk,aefm-mesh,prometheus}; do
    [[ ! -e $program ]] || ln -s "$PWD/$program" "$folder/bin/"
done
for program in pytest aefm; do
    sed "1s|.*|#!$PWD/$folder/bin/python|" ".venv/bin/$program" >"$folder/bin/$program"
    chmod +x "$folder/bin/$program"
done
printf '%s' "$key" >"$folder/.key"
