#!/bin/sh
# Puts the servers that we are compared with into .cache/bench. What cannot be had is left out, and said.
#   PYTHON=python3 PYTHON312=python3.12 sh bench/peers/install.sh
cd "$(dirname "$0")/../.." && mkdir -p .cache/bench && cd .cache/bench || exit 1
python=${PYTHON:-python3}

environment() { # name, interpreter, packages
    name=$1 with=$2
    shift 2
    if ! command -v "$with" >/dev/null || ! "$with" -c ''; then
        echo "$name: left out, there is no $with here"
    elif { [ -x "$name/bin/pip" ] || "$with" -m venv "$name"; } && "$name/bin/pip" install -q "$@"; then
        echo "$name: ready"
    else
        rm -rf "$name"
        echo "$name: left out, its packages cannot be installed"
    fi
}

environment tuspyserver "$python" tuspyserver uvicorn httptools uvloop
environment copyparty "$python" copyparty
environment asgi-tus "${PYTHON312:-python3.12}" asgi-tus structlog uvicorn httptools uvloop
if command -v npm >/dev/null && mkdir -p node && (cd node && { [ -f package.json ] || npm init -y >/dev/null; } &&
    npm install --silent --no-fund --no-audit @tus/server @tus/file-store); then
    echo "tusnode: ready"
else
    rm -rf node
    echo "tusnode: left out, npm cannot install it"
fi
