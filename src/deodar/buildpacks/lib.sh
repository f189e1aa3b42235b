# Words and chores that the built-in buildpacks share; knows no language. Sourced, never run.
set -euo pipefail

# HOME is /app, so what tools keep there would end up in the slug.
export XDG_CACHE_HOME=$CACHE_DIR/xdg/cache XDG_DATA_HOME=$CACHE_DIR/xdg/data
export XDG_STATE_HOME=$CACHE_DIR/xdg/state XDG_CONFIG_HOME=$CACHE_DIR/xdg/config

step() { echo "-----> $*"; }

note() { echo "       $*"; }

warn() { printf ' !     %s\n' "$@"; }

# Says why the build cannot go on, one line an argument, and ends it.
fail() {
  warn "$@" >&2
  exit 1
}

indent() { sed -u 's/^/       /'; }

# config NAME: a config var's value, or nothing.
config() {
  if [[ -f $ENV_DIR/$1 ]]; then cat "$ENV_DIR/$1"; fi
}

# Config vars into the environment, but for those that would break the build's own tools.
export_config() {
  local file name value
  for file in "$ENV_DIR"/*; do
    name=${file##*/}
    case $name in
      '*' | PATH | HOME | STACK | GIT_DIR | CPATH | CPPATH | LD_PRELOAD | LIBRARY_PATH | \
        LD_LIBRARY_PATH | PYTHONHOME | PYTHONPATH | GEM_HOME | GEM_PATH | BUNDLE_PATH | BUNDLE_GEMFILE | \
        BASH_ENV | ENV) ;;
      *)
        # To the end of the file; that there is no NUL is no failure.
        IFS= read -r -d '' value < "$file" || true
        export "$name=$value"
        ;;
    esac
  done
}

# profile NAME: the script on stdin runs before each process of the app.
profile() {
  mkdir -p "$BUILD_DIR/.profile.d"
  cat > "$BUILD_DIR/.profile.d/$1.sh"
}

# hook FILE: runs an app's own script of that name, if there is one.
hook() {
  [[ -f $BUILD_DIR/$1 ]] || return 0
  step "Running $1 hook"
  chmod +x "$BUILD_DIR/$1"
  (cd "$BUILD_DIR" && "./$1") || fail "The script $1 failed. Its output above says why."
}

# key FILE...: one word for the contents of the files that exist, in that order, and of stdin.
key() {
  {
    cat
    local file
    for file; do if [[ -e $file ]]; then sha256sum < "$file"; else echo none; fi; done
  } | sha256sum | cut -c 1-64
}

# keep FOLDER KEY: remembers a folder of the app, relative to it, for the next build.
keep() {
  local kept=$CACHE_DIR/kept/${1//\//_}
  rm -rf "$kept"
  mkdir -p "$kept"
  cp -a --reflink=auto "$BUILD_DIR/$1" "$kept/tree"
  # Last, so that a copy which was cut short is never taken for a whole one.
  echo "$2" > "$kept/key"
}

# restore FOLDER KEY: brings back what `keep` kept under the same key; fails if there is none.
restore() {
  local kept=$CACHE_DIR/kept/${1//\//_}
  [[ -f $kept/key && $(< "$kept/key") == "$2" ]] || return 1
  mkdir -p "$(dirname "$BUILD_DIR/$1")"
  rm -rf "${BUILD_DIR:?}/$1"
  cp -a --reflink=auto "$kept/tree" "$BUILD_DIR/$1"
}
