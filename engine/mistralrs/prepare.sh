#!/usr/bin/env bash
# Puts the registry's own mistralrs-core 0.8.1 into vendor/ with mistralrs-core.patch: re-exports of the types that our step
# needs, and a build script that does not ask git for the revision of *this* repository. Nothing of theirs is committed.
# A tree that is already right is left untouched, and a new one gets fixed times: cargo judges a path dependency by its files'
# modification times, and mistralrs-core takes minutes to build.
set -euo pipefail
version=0.8.1
# When the patch was last changed: what was built before is built again, what was built later stays.
patched=2026-11-25T22:53:00Z
here=$(cd "$(dirname "$0")" && pwd)
vendor=$(cd "$here/../.." && pwd)/vendor
stamp="$version $patched $(sha256sum < "$here/mistralrs-core.patch" | cut -c1-64)"
if [ "$(cat "$vendor/.prepared" 2>/dev/null || true)" = "$stamp" ]; then exit 0; fi

for tool in cargo patch; do
  command -v "$tool" >/dev/null || { echo "make prepare needs '$tool': install it and run it again" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/src"
: > "$work/src/lib.rs"
printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\nmistralrs-core = "=%s"\n' "$version" > "$work/Cargo.toml"
echo "prepare: fetching mistralrs-core $version from the registry"
(cd "$work" && cargo fetch --quiet)
manifest=$(cd "$work" && cargo metadata --format-version 1 --offline |
  grep -o "\"manifest_path\":\"[^\"]*mistralrs-core-$version/Cargo.toml\"" | head -n 1 | cut -d'"' -f4)
[ -n "$manifest" ] || { echo "mistralrs-core $version is not among the fetched sources" >&2; exit 1; }

rm -rf "$vendor"
mkdir -p "$vendor"
cp -r "$(dirname "$manifest")" "$vendor/mistralrs-core"
rm -f "$vendor/mistralrs-core/.cargo-checksum.json" "$vendor/mistralrs-core/.cargo-ok"
patch --quiet -p1 -d "$vendor/mistralrs-core" < "$here/mistralrs-core.patch"
find "$vendor/mistralrs-core" -exec touch -h -d "$patched" {} +
echo "$stamp" > "$vendor/.prepared"
echo "prepare: vendor/mistralrs-core is ready"
