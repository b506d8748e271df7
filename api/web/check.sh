#!/usr/bin/env bash
# Checks the page: types, the tests of the feed's state machine, and that dist/ is what the sources give.
# Works in a copy, so that the tree stays as it is. Says SKIPPED where Node or the packages can't be had.
set -euo pipefail
cd "$(dirname "$0")"
skip() {
  echo "   SKIPPED: $1; the page's types, tests and bundle were not checked"
  exit 0
}
command -v node >/dev/null && command -v npm >/dev/null || skip "Node and npm are not installed"
[ "$(node -p 'Number(process.versions.node.split(".")[0]) >= 20')" = true ] || skip "Node is older than 20"
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
find . -mindepth 1 -maxdepth 1 ! -name node_modules ! -name build -exec cp -R {} "$copy/" \;
cd "$copy"
npm ci --ignore-scripts --prefer-offline --no-audit --no-fund --silent >npm.log 2>&1 || { tail -3 npm.log; skip "npm can't get the packages"; }
npm run --silent verify >verify.log 2>&1 || { cat verify.log; exit 1; }
tail -1 verify.log
