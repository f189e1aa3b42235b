#!/usr/bin/env bash
# Runs buildpacks over the source in /app, after Heroku's buildpack API; streams their output.
#
# Its arguments are the buildpacks asked for, in order: the first is buildpacks/00-*, or is fetched when
# there is no such folder. With no arguments, the first folder whose bin/detect says yes is taken.
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
cp -R "$here/buildpacks/." "$work"

reject() {
  echo "$1" > "$result/failure"
  exit 1
}

compile() {
  local folder=$1 shown=$2 name=$3 number=${1##*/}
  number=${number%%-*}
  "$folder/bin/compile" "$build_dir" "$cache_dir" "$env_dir" ||
    reject "Push rejected, failed to compile $name app."
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
