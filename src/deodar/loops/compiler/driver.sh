#!/usr/bin/env bash
# Runs buildpacks over the source in /app, after Heroku's buildpack API; streams their output.
#
# Its arguments are the buildpacks asked for, in order: the first is buildpacks/00-*, or is fetched when
# there is no such folder. With no arguments, the first folder whose bin/detect says yes is taken.
# With `--test` before them it makes a test run after Heroku's testpack API instead of a slug.
# Leaves in result/:
#   detected       id of the buildpack that detect chose
#   name           what the (last) buildpack calls such an app: `Python`
#   release.yml    what the last buildpack's bin/release says
#   report-NN      what each one's bin/report says
#   failure        why it failed, in a sentence
# Exit status: 0, or 1 with result/failure written.
set -uo pipefail

here=${0%/*}
result=$here/result
build_dir=/app
cache_dir=$here/cache
env_dir=$here/env
# Buildpacks write beside themselves (`export`), so each works on a copy.
work=$(mktemp -d)
testing=''
if [[ ${1:-} == --test ]]; then
  testing=yes
  shift
fi
compiled=() # folders of the buildpacks that did their part
cp -R "$here/buildpacks/." "$work"

reject() {
  echo "$1" > "$result/failure"
  exit 1
}

compile() {
  local folder=$1 shown=$2 name=$3 number=${1##*/} script=compile
  number=${number%%-*}
  if [[ $testing && -f $folder/bin/test-compile ]]; then script=test-compile; fi
  "$folder/bin/$script" "$build_dir" "$cache_dir" "$env_dir" ||
    reject "Push rejected, failed to compile $name app."
  compiled+=("$folder")
  echo "$name" > "$result/name"
  rm -f "$result/release.yml"
  if [[ -f $folder/bin/release ]]; then
    "$folder/bin/release" "$build_dir" > "$result/release.yml" ||
      reject "Push rejected, bin/release of $shown failed."
  fi
  if [[ -f $folder/bin/report ]]; then
    # A report is for the record only; one that fails is left out and the build goes on.
    "$folder/bin/report" "$build_dir" "$cache_dir" "$env_dir" > "$result/report-$number" ||
      rm -f "$result/report-$number"
  fi
}

detect() {
  local folder name
  for folder in "$work"/[0-9]*; do
    if name=$("$folder/bin/detect" "$build_dir"); then
      echo "heroku/${folder##*/[0-9]*-}" > "$result/detected"
      echo "-----> $name app detected"
      compile "$folder" "$(< "$result/detected")" "$name"
      return
    fi
  done
  cat <<'END'
 !     No default language could be detected for this app.
 !     HINT: This occurs when Deodar cannot detect the buildpack to use for this application automatically.
 !     Add one of these files to the root of the repository, and commit it:
 !       Gemfile (Ruby), package.json (Node.js), requirements.txt, uv.lock or poetry.lock (Python),
 !       composer.json or index.php (PHP), go.mod (Go), index.html or static.json (static site),
 !       Procfile (anything already executable)
 !     or set a buildpack: heroku buildpacks:set <name or URL>
 !     See https://devcenter.heroku.com/articles/buildpacks
END
  if [[ -f Dockerfile ]]; then
    cat <<'END'
 !     There is a Dockerfile, but Deodar builds with buildpacks only. What it copies and runs needs a
 !     buildpack of its language; what its CMD starts goes into a Procfile:
 !       web: the command, listening on $PORT
 !     Debian packages that it installs come by a buildpack for an Aptfile.
END
  fi
  reject "No default language could be detected for this app."
}

# fetch URL FOLDER: a buildpack of others, here where it can do no harm. `#` goes before a git ref.
fetch() {
  local url=${1%%#*} ref=''
  if [[ $1 == *'#'* ]]; then ref=${1#*#}; fi
  export GIT_TERMINAL_PROMPT=0
  case $url in
    *.tgz | *.tar.gz) mkdir "$2" && curl -fsSL --retry 2 "$url" | tar -xz -C "$2" ;;
    *)
      if [[ -z $ref ]]; then
        git clone --quiet --depth 1 "$url" "$2"
      else
        git clone --quiet "$url" "$2" && git -C "$2" checkout --quiet "$ref"
      fi
      ;;
  esac || {
    echo " !     Cannot fetch the buildpack ${url##*@}. The lines above say why."
    reject "Push rejected, cannot fetch the buildpack ${url##*@}."
  }
}

run_all() {
  local asked shown folder folders name number=0
  for asked; do
    # An address may carry a password.
    shown=$(sed -E 's|://[^/@]*@|://|' <<< "$asked")
    echo "-----> Using buildpack: $shown"
    folders=("$work/$(printf '%02d' "$number")"-*)
    folder=${folders[0]}
    if [[ ! -d $folder ]]; then
      folder=$work/$(printf '%02d' "$number")-fetched
      fetch "$asked" "$folder"
    fi
    number=$((number + 1))
    [[ -f $folder/bin/compile ]] || {
      echo " !     $shown has no bin/compile, so it is not a buildpack."
      reject "Push rejected, $shown is not a buildpack."
    }
    chmod -f +x "$folder"/bin/*
    # Asked for by name, a buildpack runs whatever its detect says; it is asked for the app's name only.
    if [[ -f $folder/bin/detect ]] && name=$("$folder/bin/detect" "$build_dir"); then
      echo "-----> $name app detected"
    else
      name=$shown
    fi
    compile "$folder" "$shown" "$name"
    if [[ -f $folder/export ]]; then
      # shellcheck disable=SC1091
      source "$folder/export"
    fi
  done
}

# The app's own commands if its app.json names any, else each buildpack's bin/test.
run_tests() {
  local setup own folder
  setup=$(app_script test-setup)
  own=$(app_script test)
  if [[ -n $setup ]]; then run_test test-setup "$setup" bash -c "$setup"; fi
  if [[ -n $own ]]; then
    run_test test "$own" bash -c "$own"
    return
  fi
  for folder in "${compiled[@]}"; do
    if [[ -f $folder/bin/test ]]; then
      run_test test bin/test "$folder/bin/test" "$build_dir" "$env_dir"
    fi
  done
}

app_script() {
  if [[ -f app.json ]]; then
    jq -r --arg name "$1" '.environments.test.scripts[$name] // .scripts[$name] // empty' app.json
  fi
}

# run_test KIND SHOWN COMMAND...: in the environment of a dyno; config vars are strangers to this script,
# so they are set for the command only.
run_test() {
  local kind=$1 shown=$2 status=0 file value vars=()
  shift 2
  for file in "$env_dir"/*; do
    [[ -f $file ]] || continue
    IFS= read -r -d '' value < "$file" || true
    vars+=("${file##*/}=$value")
  done
  echo "-----> Running $kind command \`$shown\`..."
  env "${vars[@]}" bash -c \
    'for file in .profile.d/*.sh; do if [[ -f $file ]]; then source "$file"; fi; done; exec "$@"' bash "$@" ||
    status=$?
  if ((status)); then
    echo "-----> $kind command \`$shown\` failed with exit status $status"
    reject "The $kind command failed with exit status $status."
  fi
  echo "-----> $kind command \`$shown\` completed successfully"
}

# Tools only ever add to their caches; one that has outgrown its use is begun anew.
limit=4000 # MB
size=$(du --summarize --apparent-size --block-size=1MB "$cache_dir" | cut -f 1)
if ((size > limit)); then
  echo "-----> Clearing the build cache, which has grown to $size MB (max is $limit MB)"
  find "$cache_dir" -mindepth 1 -delete
fi

chmod -f +x "$work"/*/bin/*
cd "$build_dir" || exit 1
if (($#)); then
  run_all "$@"
else
  detect
fi
if [[ $testing ]]; then run_tests; fi
