#!/usr/bin/env bash
# Puts what `make build` built, its manual page, completions, documents and unit file where the system looks for them, or takes them
# away again. Changes no policy and no record, and starts nothing.
#
#   packaging/install.sh install|uninstall
#
# From the environment: PREFIX (/usr/local), SYSCONFDIR (/etc), UNITDIR (PREFIX/lib/systemd/system), DESTDIR (a folder before all of
# them, for packages), PORTCULLIS (the program to install).
set -euo pipefail
cd "$(dirname "$0")/.."
prefix=${PREFIX:-/usr/local}
sysconfdir=${SYSCONFDIR:-/etc}
unitdir=${UNITDIR:-$prefix/lib/systemd/system}
destdir=${DESTDIR:-}
program=${PORTCULLIS:-${CARGO_TARGET_DIR:-target}/release/portcullis}

binary=$prefix/bin/portcullis
manual=$prefix/share/man/man8/portcullis.8
bash=$prefix/share/bash-completion/completions/portcullis
zsh=$prefix/share/zsh/site-functions/_portcullis
fish=$prefix/share/fish/vendor_completions.d/portcullis.fish
documents=$prefix/share/doc/portcullis
unit=$unitdir/portcullis.service

put() { # mode path, the content from standard input
  mkdir -p "$destdir$(dirname "$2")"
  # Beside it and then in its place: a program that runs is not written into.
  local new="$destdir$2.new"
  cat >"$new"
  chmod "$1" "$new"
  mv -f "$new" "$destdir$2"
}

install_all() {
  if [ ! -x "$program" ]; then
    echo "There is no $program yet: run \`make\` first, as the user who has Rust." >&2
    exit 1
  fi
  put 755 "$binary" <"$program"
  "$program" man | put 644 "$manual"
  "$program" completions bash | put 644 "$bash"
  "$program" completions zsh | put 644 "$zsh"
  "$program" completions fish | put 644 "$fish"
  sed "s|^ExecStart=[^ ]*|ExecStart=$binary|" packaging/portcullis.service | put 644 "$unit"
  local document
  for document in README.md CHANGELOG.md LICENSE LICENSE-APACHE docs/*.md docs/decisions/*.md docs/images/*.png examples/*; do
    put 644 "$documents/$document" <"$document"
  done
  mkdir -p "$destdir$sysconfdir/portcullis"
  [ -z "$destdir" ] || return 0
  echo "Installed $binary. Next, as root:"
  if [ ! -e "$sysconfdir/portcullis/policy.toml" ]; then
    echo "  cp $documents/examples/server.toml $sysconfdir/portcullis/policy.toml   # and change it; it observes until it says otherwise"
  fi
  echo "  systemctl daemon-reload && systemctl enable --now portcullis"
}

uninstall_all() {
  if [ -z "$destdir" ] && "$binary" status >/dev/null 2>&1; then
    echo "Portcullis runs: end it first with \`systemctl disable --now portcullis\`, and \`portcullis flush\` takes its rules out of the kernel." >&2
    exit 1
  fi
  rm -f "$destdir$binary" "$destdir$manual" "$destdir$bash" "$destdir$zsh" "$destdir$fish" "$destdir$unit"
  rm -rf "$destdir$documents"
  # Only when nobody has put a policy there.
  rmdir "$destdir$sysconfdir/portcullis" 2>/dev/null || true
  echo "Uninstalled. Your policy ($sysconfdir/portcullis), bans and history (/var/lib/portcullis) and the record (/var/log/portcullis) are left."
}

case "${1:-}" in
  install) install_all ;;
  uninstall) uninstall_all ;;
  *) echo "usage: $0 install|uninstall" >&2; exit 2 ;;
esac
