//! The examples in help texts. A test parses each of them as a command line.

pub(super) const NARUTIL: &str = "\
Examples:
  narutil push ./result --to 's3://my-cache?region=eu-west-1' --key cache.secret
  narutil pull ./result --from https://cache.example.org --trusted cache.public --into ./root
  narutil verify --trusted cache.public /mnt/cache";

pub(super) const PACK: &str = "\
Examples:
  narutil pack ./result -o result.nar.zst
  narutil pack ./src --compression xz:9 -o src.nar.xz --listing src.ls
  narutil pack ./src | ssh host narutil unpack - /srv/src";

pub(super) const UNPACK: &str = "\
Examples:
  narutil unpack result.nar.zst ./out
  curl -s https://cache.example.org/nar/x.nar.xz | narutil unpack - ./out --canonical";

pub(super) const LS: &str = "\
Examples:
  narutil ls result.nar -lR
  narutil ls result.nar share/man
  narutil ls -l /mnt/cache
  narutil ls https://cache.nixos.org 00bgd045z0d4icpbc2yyz4gx48ak44la/bin";

pub(super) const CAT: &str = "\
Examples:
  narutil cat result.nar bin/hello > hello
  narutil cat s3://my-cache 00bgd045z0d4icpbc2yyz4gx48ak44la/bin/arp";

pub(super) const HASH: &str = "\
Examples:
  narutil hash ./src --format nix32
  narutil hash --nar result.nar.xz
  narutil hash --flat source.tar.gz --algo sha512";

pub(super) const CHECK: &str = "\
Examples:
  narutil check result.nar
  narutil check /mnt/cache/nar/1.nar.zst /mnt/cache/nar/2.nar.zst --json";

pub(super) const SCAN: &str = "\
Examples:
  narutil scan ./result --candidates paths.txt
  narutil closure ./result | narutil scan ./result --candidates -";

pub(super) const DOCTOR: &str = "\
Examples:
  narutil doctor
  narutil doctor 's3://my-cache?region=eu-west-1' --key cache.secret --write
  narutil doctor https://cache.example.org --json";

pub(super) const SHOW: &str = "\
Examples:
  narutil narinfo show 00bgd045z0d4icpbc2yyz4gx48ak44la.narinfo
  narutil narinfo show https://cache.nixos.org 00bgd045z0d4icpbc2yyz4gx48ak44la --json";

pub(super) const CHECK_NARINFO: &str = "\
Examples:
  narutil narinfo check /mnt/cache
  narutil narinfo check x.narinfo --strict";

pub(super) const FINGERPRINT: &str = "\
Examples:
  narutil narinfo fingerprint x.narinfo
  narutil narinfo fingerprint x.narinfo | sha256sum";

pub(super) const GENERATE_KEY: &str = "\
Examples:
  narutil key generate cache.example.org-1 -o cache.secret --public cache.public
  narutil key generate ci-1 --json";

pub(super) const PUBLIC_KEY: &str = "\
Examples:
  narutil key public cache.secret
  narutil key public < cache.secret";

pub(super) const SIGN: &str = "\
Examples:
  narutil sign --key cache.secret /mnt/cache
  narutil sign --key-env SIGNING_KEY s3://my-cache ./result --dry-run
  narutil sign --key new.secret --remove cache.example.org-1 /mnt/cache";

pub(super) const VERIFY: &str = "\
Examples:
  narutil verify --trusted cache.public /mnt/cache
  narutil verify --trusted nix.conf https://cache.nixos.org ./result
  narutil verify --trusted cache.public --contents s3://my-cache";

pub(super) const CLOSURE: &str = "\
Examples:
  narutil closure ./result --size --sort closure-size
  narutil closure ./result --from https://cache.nixos.org --json
  narutil closure ./result --tree
  narutil closure ./result --html closure.html";

pub(super) const DIFF: &str = "\
Examples:
  narutil diff ./result --to https://cache.nixos.org
  narutil diff ./result --to s3://my-cache --to https://cache.nixos.org --exit-code";

pub(super) const WHY: &str = "\
Examples:
  narutil why ./result /nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60
  narutil why ./result gcc --all
  narutil why ./result 00bgd045z0d4icpbc2yyz4gx48ak44la --from https://cache.nixos.org";

pub(super) const CONVERT: &str = "\
Examples:
  narutil convert --to json:paths.json
  narutil convert ./result --from https://cache.nixos.org --to registration:result.reg
  narutil convert --from json:paths.json --to json:- --json-format 2";

pub(super) const PUSH: &str = "\
Examples:
  narutil push ./result --to 's3://my-cache?region=eu-west-1' --key cache.secret
  narutil push ./result --to /mnt/cache --key-env SIGNING_KEY --root main --label commit=1a2b3c4
  narutil push --add ./site --to file:///srv/cache
  narutil push --queue /var/lib/push-queue --to s3://my-cache --key cache.secret";

pub(super) const PULL: &str = "\
Examples:
  narutil pull ./result --from https://cache.example.org --trusted cache.public --into ./root
  narutil pull --from s3://my-cache --root main --trusted cache.public --into ./root
  narutil pull --from s3://my-cache --roots --trusted cache.public --to /mnt/mirror
  narutil pull ./result --from s3://my-cache --no-check-sigs --to ./c --root main --label ci=42";

pub(super) const AUDIT: &str = "\
Examples:
  narutil audit /mnt/cache --trusted cache.public
  narutil audit s3://my-cache --contents --json
  narutil audit /mnt/cache --repair --dry-run";

pub(super) const INFO: &str = "\
Examples:
  narutil info /mnt/cache
  narutil info s3://my-cache --json";

pub(super) const ROOTS: &str = "\
Examples:
  narutil roots s3://my-cache
  narutil roots s3://my-cache main --json";

pub(super) const PIN: &str = "\
Examples:
  narutil root pin s3://my-cache release-24.05
  narutil root pin /mnt/cache main --generation 20260101T120000000-1f2e3d4c5b6a7980";

pub(super) const UNPIN: &str = "\
Examples:
  narutil root unpin s3://my-cache release-24.05
  narutil root unpin /mnt/cache main --generation 20260101T120000000-1f2e3d4c5b6a7980";

pub(super) const REMOVE: &str = "\
Examples:
  narutil root remove s3://my-cache feature-x
  narutil root remove /mnt/cache main --generation 20260101T120000000-1f2e3d4c5b6a7980";

pub(super) const LABEL: &str = "\
Examples:
  narutil root label s3://my-cache main commit=1a2b3c4 pipeline=4711
  narutil root label s3://my-cache main commit=";

pub(super) const GC: &str = "\
Examples:
  narutil gc s3://my-cache --keep-last 3 --keep-within 30d --dry-run
  narutil gc /mnt/cache --max-size 50G
  narutil gc /mnt/cache --unrooted 30d --grace 7d";

pub(super) const COMPLETIONS: &str = "\
Examples:
  narutil completions bash > ~/.local/share/bash-completion/completions/narutil
  narutil completions fish > ~/.config/fish/completions/narutil.fish";

pub(super) const MAN: &str = "\
Examples:
  narutil man ~/.local/share/man/man1
  narutil man ./man; man -l ./man/narutil-push.1";
