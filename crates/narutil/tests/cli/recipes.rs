//! The commands in the documentation are extracted and run, in an environment that the test
//! prepares.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use conformance::{ACCESS_KEY, Nix, SECRET_KEY, Server, nixes, programs, read_tree, skip};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::narutil::{Scratch, narutil, run};
use crate::queue::assert_good;

/// A document, as the blocks of code in it: what stands behind the fence, and the lines.
struct Guide(Vec<(String, String)>);

impl Guide {
    /// Reads a guide.
    fn named(name: &str) -> Self {
        Self::page(&format!("docs/guides/{name}"))
    }

    /// Reads any page, by its path in the repository.
    fn page(path: &str) -> Self {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap();
        let (mut blocks, mut open): (Vec<(String, String)>, Option<usize>) = (Vec::new(), None);
        for line in text.lines() {
            let indent = line.len() - line.trim_start().len();
            match (open, line.trim_start().strip_prefix("```")) {
                (None, Some(info)) => {
                    blocks.push((info.to_owned(), String::new()));
                    open = Some(indent);
                }
                (Some(_), Some(_)) => open = None,
                (Some(outer), None) => {
                    let block = &mut blocks.last_mut().unwrap().1;
                    block.push_str(&line[outer.min(indent)..]);
                    block.push('\n');
                }
                (None, None) => {}
            }
        }
        Self(blocks)
    }

    /// All blocks of a kind, one after the other.
    fn block(&self, info: &str) -> String {
        let found: String = self.0.iter().filter(|block| block.0 == info).map(|block| block.1.as_str()).collect();
        assert!(!found.is_empty(), "no block {info}");
        found
    }

    /// The commands that stand behind a prompt in the blocks `console run`, each with the lines
    /// that it is to print.
    fn session(&self) -> Vec<(String, Vec<String>)> {
        let mut session: Vec<(String, Vec<String>)> = Vec::new();
        for line in self.block("console run").lines() {
            match line.strip_prefix("$ ") {
                Some(command) => session.push((command.to_owned(), Vec::new())),
                None => session.last_mut().unwrap().1.push(line.to_owned()),
            }
        }
        session
    }

    /// The lines of a list in a job's description, as GitLab runs them.
    fn job(&self, job: &str, list: &str) -> String {
        let all = self.block("yaml .gitlab-ci.yml");
        let lines = all.lines().skip_while(|line| *line != format!("{job}:")).skip(1);
        let lines = lines.take_while(|line| line.starts_with(' ') || line.is_empty());
        let lines = lines.skip_while(|line| *line != format!("  {list}:")).skip(1);
        let lines: Vec<&str> = lines.map_while(|line| line.strip_prefix("    - ")).collect();
        assert!(!lines.is_empty(), "{job} has no {list}");
        lines.join("\n")
    }
}

/// Where a guide is run: a directory, with the program on `PATH`, beside a Nix if there is one.
struct Place<'a> {
    scratch: &'a Scratch,
    folder: PathBuf,
    nix: Option<&'a Nix>,
    variables: Vec<(&'static str, OsString)>,
}

impl<'a> Place<'a> {
    fn new(scratch: &'a Scratch, name: &str, nix: Option<&'a Nix>) -> Self {
        let folder = scratch.path(name);
        fs::create_dir_all(folder.join("etc")).unwrap();
        fs::create_dir_all(folder.join("bin")).unwrap();
        // No caches but those that the guide names.
        fs::write(folder.join("etc/nix.conf"), "substituters =\n").unwrap();
        let program = folder.join("bin/narutil");
        // The store of the test's Nix is the one that is installed here.
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = push ] && [ -n \"${{DATABASE-}}\" ]; then\n  case \" $* \" in *' --from '*) ;; *) shift; \
             set -- push --from \"db:$DATABASE\" \"$@\" ;; esac\nfi\nexec {} \"$@\"\n",
            env!("CARGO_BIN_EXE_narutil")
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let variables = vec![
            ("NIX_CONF", folder.join("etc/nix.conf").into()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.into()),
        ];
        Self { scratch, folder, nix, variables }
    }

    fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// The keys that the index of the guides makes.
    fn with_keys(self) -> Self {
        let [key, public] = ["secret", "public"].map(|name| self.scratch.path(name));
        let this = self.with("KEY", &key).with("PUBLIC", &public);
        if !key.exists() {
            this.run(&Guide::named("index.md").block("sh"));
        }
        this
    }

    fn command(&self, shell: &str) -> Command {
        let mut path = vec![self.folder.join("bin")];
        let mut command = match self.nix {
            Some(nix) => {
                path.push(Path::new(nix.command("nix-store").get_program()).parent().unwrap().to_owned());
                let mut command = nix.command(shell);
                // In a store that is not at its logical place, builders see only what they are
                // given.
                let mut settings = "build-users-group =\nsandbox = false\nexperimental-features = nix-command flakes\n\
                                    sandbox-paths = /bin /lib /lib64? /usr\n"
                    .to_owned();
                if !nix.version().starts_with("2.8.") {
                    // It would start itself, under a name that a Nix which is run through its
                    // loader does not have.
                    settings.push_str("build-hook =\n");
                }
                command.env("NIX_CONFIG", settings).env("NIX_CONF_DIR", self.folder.join("etc"));
                command.env("DATABASE", nix.database());
                command
            }
            None => Command::new(shell),
        };
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        command.env("PATH", std::env::join_paths(path).unwrap()).current_dir(&self.folder).stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn script(&self, script: &str) -> Command {
        let mut command = self.command("/bin/sh");
        command.args(["-euc", script]);
        command
    }

    /// Runs commands that must succeed, and gives their standard output, then their standard error.
    fn run(&self, script: &str) -> String {
        succeed(self.script(script))
    }

    /// Nix fetches paths from a cache into an empty store, requiring signatures.
    fn fetch(&self, cache: &str, paths: &[String]) {
        let store = tempfile::tempdir().unwrap();
        let to = format!("local?root={}", store.path().canonicalize().unwrap().display());
        let key = fs::read_to_string(self.scratch.path("public")).unwrap();
        let nix = self.nix.unwrap();
        let mut copy = nix.command("nix");
        copy.args(["copy", "--from", cache, "--to", &to, "--trusted-public-keys", key.trim()]).args(paths);
        succeed(copy);
        let mut verify = nix.command("nix-store");
        verify.env("NIX_REMOTE", &to).args(["--verify", "--check-contents"]);
        succeed(verify);
        let _ = Command::new("chmod").args(["-R", "u+w"]).arg(store.path()).status();
    }
}

fn succeed(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}: {said}", command.get_args());
    said
}

/// Commands in a process group of their own, so that they can be killed with all that they have
/// started.
fn start(mut command: Command) -> Child {
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn kill(mut child: Child) {
    // The process may have ended.
    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    child.wait().unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A Nix expression that needs no package set: `count` programs, each of which refers to one of
/// several libraries.
fn expression(label: &str, count: usize) -> String {
    format!(
        r#"let
  build = name: script: derivation {{
    inherit name; system = builtins.currentSystem; PATH = "/bin:/usr/bin"; builder = "/bin/sh"; args = [ "-c" script ];
  }};
  library = n: build "{label}-library-${{toString n}}" "head -c 1500000 /dev/urandom > $out";
  program = n: build "{label}-${{toString n}}" "mkdir -p $out/bin; echo ${{library (n / 4)}} {label} > $out/bin/run";
in builtins.genList program {count}
"#
    )
}

/// A line without what is different in each run: words with a digit in them, and plurals.
fn shape(line: &str) -> String {
    let words = line.split_whitespace();
    let shape = |word: &str| {
        if word.contains(|c: char| c.is_ascii_digit()) { "#".into() } else { word.trim_end_matches('s').to_owned() }
    };
    words.map(shape).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_pages_print_what_they_show() {
    let scratch = Scratch::new();
    for (number, page) in ["README.md", "docs/start.md", "docs/concepts/trust.md"].into_iter().enumerate() {
        let place = Place::new(&scratch, &format!("page-{number}"), None);
        for (command, shown) in Guide::page(page).session() {
            let output = place.script(&command).output().unwrap();
            let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
            assert!(output.status.success(), "{page}: {command}: {stderr}");
            let mut printed: Vec<String> = stdout.lines().chain(stderr.lines()).map(shape).collect();
            let mut shown: Vec<String> = shown.iter().map(|line| shape(line)).collect();
            printed.sort();
            shown.sort();
            assert_eq!(printed, shown, "{page}: {command}");
        }
    }
}

#[test]
fn a_hook_queues_what_is_built_and_a_drain_that_is_killed_loses_none_of_it() {
    let guide = Guide::named("post-build-hook.md");
    let blocks: Vec<_> = guide.0.iter().filter(|block| block.0 == "sh").map(|block| block.1.as_str()).collect();
    let [hook, publish] = blocks[..] else { panic!("{} blocks", blocks.len()) };
    let service = guide.block("ini narutil-push.service");
    let service = service.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    for nix in nixes() {
        let scratch = Scratch::new();
        let (queue, cache) = (scratch.path("queue"), scratch.path("cache"));
        let place = Place::new(&scratch, "builder", Some(&nix))
            .with("NARUTIL_QUEUE", &queue)
            .with("HOOK", scratch.path("hook"))
            .with("CACHE", &cache)
            .with_keys();
        place.run(hook);
        // Three builders build several things each at the same time, while the publisher is killed
        // again and again.
        for label in ["red", "green", "blue"] {
            fs::write(place.folder.join(format!("{label}.nix")), expression(label, 16)).unwrap();
        }
        let built = std::thread::scope(|scope| {
            let builders: Vec<_> = ["red", "green", "blue"]
                .map(|label| {
                    let place = &place;
                    scope.spawn(move || {
                        place.run(&format!("nix-build --max-jobs 4 --no-out-link {label}.nix 2>{label}"))
                    })
                })
                .into_iter()
                .collect();
            let drain = guide.block("sh loop");
            let mut attempt = 0_u64;
            while builders.iter().any(|builder| !builder.is_finished()) {
                let child = start(place.script(&drain));
                std::thread::sleep(Duration::from_millis(60 + attempt * 70 % 400));
                kill(child);
                attempt += 1;
            }
            assert!(attempt > 3);
            let built = builders
                .into_iter()
                .flat_map(|builder| builder.join().unwrap().lines().map(str::to_owned).collect::<Vec<_>>());
            built.collect::<Vec<_>>()
        });
        assert_eq!(built.len(), 48);
        place.run(publish);
        assert!(names(&queue).iter().all(|name| name.starts_with('.')), "{:?}", names(&queue));
        assert_good(narutil!["audit", "--json", "--contents", "--trusted", scratch.path("public"), &cache]);
        place.fetch(&format!("file://{}", cache.display()), &built);

        // The unit of systemd, which puts the variables into the command by itself.
        fs::write(place.folder.join("default.nix"), expression("later", 1)).unwrap();
        let later = place.run("nix-build --no-out-link 2>log");
        // An entry for the library, and one for the program.
        assert_eq!(names(&queue).len(), 2, "{:?}", names(&queue));
        place.run(service);
        assert_eq!(names(&queue).len(), 0, "{:?}", names(&queue));
        place.fetch(&format!("file://{}", cache.display()), &[later.trim().to_owned()]);

        // A build does not fail because the queue is gone.
        fs::remove_dir_all(&queue).unwrap();
        fs::write(place.folder.join("default.nix"), expression("no-queue", 1)).unwrap();
        place.run("nix-build --no-out-link");
    }
}

#[test]
fn runners_share_a_drive_that_readers_fetch_from() {
    let guide = Guide::named("shared-drive.md");
    for (nix, reader) in nixes().into_iter().zip(nixes()) {
        let scratch = Scratch::new();
        let drive = scratch.path("drive");
        let paths = nix.add_closure(60, 12_000_000, 3);
        let group = rustix::process::getegid().as_raw().to_string();
        let root = Place::new(&scratch, "root", None).with("DRIVE", &drive).with("GROUP", group);
        root.run(&guide.block("sh setup"));
        let runners: Vec<_> = (0..4)
            .map(|number| {
                let place = Place::new(&scratch, &format!("runner-{number}"), Some(&nix));
                place.with("DRIVE", &drive).with("RESULT", &paths[59 - number * 10]).with_keys()
            })
            .collect();
        std::thread::scope(|scope| {
            for runner in &runners {
                scope.spawn(|| runner.run(&guide.block("sh push")));
            }
        });
        let place = Place::new(&scratch, "reader", Some(&reader)).with("DRIVE", &drive).with_keys();
        place.run(&guide.block("sh reader"));
        place.run(&format!("nix-store --realise {}", paths[59]));
        place.run("nix-store --verify --check-contents");
        place.run(&guide.block("sh audit"));
    }
}

#[test]
fn jobs_of_gitlab_fetch_from_a_bucket_what_others_have_built() {
    let guide = Guide::named("gitlab-s3.md");
    let Some(moto) = Server::moto() else { return };
    let scratch = Scratch::new();
    for (nix, other) in nixes().into_iter().zip(nixes()) {
        // Nix 2.8 has no path-style addressing, so it cannot reach a server that has one name for
        // all buckets.
        if nix.version().starts_with("2.8.") {
            continue;
        }
        let job = |name: &str, nix| {
            let place = Place::new(&scratch, name, nix).with_keys();
            let public = fs::read_to_string(scratch.path("public")).unwrap();
            fs::write(place.folder.join("default.nix"), expression("app", 1)).unwrap();
            let key = scratch.path("secret");
            place.with("CACHE", moto.s3()).with("PUBLIC_KEY", public.trim()).with("SIGNING_KEY", key)
        };
        // GitLab runs these two as one script, and `after_script` in another shell.
        let build = format!("{}\n{}", guide.job("build", "before_script"), guide.job("build", "script"));
        let after = guide.job("build", "after_script");
        let first = job("first", Some(&nix));
        assert!(first.run(&build).contains("building '/nix/store/"));
        let said = first.run(&after);
        assert!(said.contains("published 2 paths"), "{said}");
        let second = job("second", Some(&other));
        let said = second.run(&build);
        assert!(!said.contains("building '/nix/store/") && said.contains("copying path"), "{said}");
        second.run(&after);
        // A job whose build has failed has nothing to publish.
        job("third", Some(&other)).run(&after);

        let app = fs::read_link(first.folder.join("result")).unwrap();
        let deploy = job("deploy", None).with("APP", app);
        let script = format!("{}\n{}", guide.job("deploy", "before_script"), guide.job("deploy", "script"));
        assert!(deploy.run(&script).contains("bin"));
        let said = job("collect", None).run(&guide.job("collect", "script"));
        assert!(said.contains("keeping 1 root and 2 paths"), "{said}");
        fs::remove_dir_all(deploy.folder.join("root")).ok();
        deploy.run(&script);
    }
}

#[test]
fn a_container_gets_a_store_that_its_nix_takes_over() {
    let guide = Guide::named("container.md");
    for (nix, inner) in nixes().into_iter().zip(nixes()) {
        let scratch = Scratch::new();
        let cache = scratch.path("cache");
        let app = nix.add_closure(20, 1_000_000, 4).pop().unwrap();
        let publisher = Place::new(&scratch, "publisher", Some(&nix)).with("CACHE", &cache).with_keys();
        publisher.run(&format!("narutil push {app} --to \"$CACHE\" --key \"$KEY\""));

        let root = scratch.path("root").canonicalize().unwrap_or_else(|_| scratch.path("root"));
        let place = |nix| {
            let place = Place::new(&scratch, "container", nix).with("CACHE", &cache).with("APP", &app);
            place.with("ROOT", &root).with_keys()
        };
        place(None).run(&guide.block("sh fill"));
        place(None).run(&guide.block("sh layer"));
        // The container is what the layer makes of an empty directory.
        let unpacked = scratch.path("unpacked");
        fs::create_dir(&unpacked).unwrap();
        let unpacked = unpacked.canonicalize().unwrap();
        let container = place(Some(&inner))
            .with("REGISTRATION", unpacked.join("registration"))
            .with("NIX_REMOTE", format!("local?root={}", unpacked.display()))
            .with("GCROOT", unpacked.join("nix/var/nix/gcroots/app"))
            .with("UNPACKED", &unpacked);
        container.run("tar -C \"$UNPACKED\" -xpf layer.tar");
        let said = container.run(&guide.block("sh load"));
        assert!(!said.contains("modified") && !said.contains("disappeared"), "{said}");
        let valid = container.run("nix-store --query --requisites \"$APP\"");
        assert!(valid.lines().count() > 1 && valid.contains(&app), "{valid}");
        container.run(&guide.block("sh root"));
        container.run("nix-store --gc && nix-store --check-validity $(nix-store --query --requisites \"$APP\")");
        container.run("nix-store --verify --check-contents");
        let _ = Command::new("chmod").args(["-R", "u+w"]).arg(&unpacked).arg(&root).status();
    }
}

#[test]
fn jobs_build_above_a_lower_store_that_does_not_change() {
    let guide = Guide::named("overlay-store.md");
    let Some([unshare]) = programs(["unshare"], "no namespaces to mount in: install util-linux") else { return };
    for (nix, other) in nixes().into_iter().zip(nixes()) {
        let scratch = Scratch::new();
        let cache = scratch.path("cache");
        let paths = nix.add_closure(20, 1_000_000, 4);
        let top = paths.last().unwrap();
        let more = nix.add_closure(10, 500_000, 5).pop().unwrap();
        let publisher = Place::new(&scratch, "publisher", Some(&nix)).with("CACHE", &cache).with_keys();
        publisher.run(&format!("narutil push {top} {more} --to \"$CACHE\" --key \"$KEY\""));

        let base = scratch.path("").canonicalize().unwrap();
        let (lower, job) = (base.join("lower"), base.join("job"));
        let place = Place::new(&scratch, "machine", Some(&other))
            .with("CACHE", &cache)
            .with("LOWER", &lower)
            .with("PATHS", top)
            .with("JOB", &job)
            .with("NEXT", base.join("next"))
            .with("MORE_PATHS", &more)
            .with_keys();
        place.run(&guide.block("sh lower"));
        if other.version().starts_with("2.8.") {
            // Nix 2.8 has neither kind of store.
            continue;
        }
        let known = place.run(&guide.block("sh look"));
        assert!(known.contains(top.as_str()), "{known}");
        let before = read_tree(&lower).unwrap();

        // The namespace takes its mounts with it when it ends.
        let mut namespace = vec!["--mount", "--map-root-user"];
        if rustix::process::geteuid().is_root() {
            namespace.pop();
        }
        let inside = |script: &str| {
            let mut command = place.command(unshare.to_str().unwrap());
            command.args(&namespace).args(["/bin/sh", "-euc", script]);
            command
        };
        let probe = "mkdir -p probe/l probe/u probe/w probe/m
            mount -t overlay overlay -o lowerdir=probe/l,upperdir=probe/u,workdir=probe/w probe/m";
        if !inside(probe).output().unwrap().status.success() {
            skip("no permission to mount an overlay");
            return;
        }
        let uses = top.as_str();
        fs::write(
            place.folder.join("default.nix"),
            format!(
                r#"derivation {{
  name = "job"; system = builtins.currentSystem; PATH = "/bin:/usr/bin"; builder = "/bin/sh";
  args = [ "-c" "cat ${{builtins.storePath "{uses}"}}/references > /dev/null; echo {uses} > $out" ];
}}"#
            ),
        )
        .unwrap();
        let all: String = ["sh mount", "sh build", "sh publish"].map(|name| guide.block(name)).concat();
        let check =
            format!("nix-store --query --requisites \"$JOB/result\"\nls \"$JOB/upper\"\n{}", guide.block("sh end"));
        let said = succeed(inside(&format!("{all}{check}")));
        assert!(said.contains(uses), "{said}");
        assert!(said.contains("published 1 path"), "{said}");
        assert!(!job.exists());
        place.run(&guide.block("sh next"));
        let next = place.run(
            "export NIX_REMOTE=\"local?root=$NEXT\"
            nix-store --verify --check-contents
            nix-store --query --requisites $PATHS $MORE_PATHS",
        );
        assert!(next.contains(top.as_str()) && next.contains(&more), "{next}");
        assert!(!next.contains("modified") && !next.contains("disappeared"), "{next}");
        assert!(before == read_tree(&lower).unwrap(), "the lower store has changed");
        let _ = Command::new("chmod").args(["-R", "u+w"]).args([&lower, &base.join("next")]).status();
    }
}

#[test]
fn a_cache_moves_to_another_bucket_with_all_signatures() {
    let guide = Guide::named("move-bucket.md");
    let (Some(old), Some(new)) = (Server::moto(), Server::moto()) else { return };
    let Some(nix) = nixes().pop() else { return };
    let scratch = Scratch::new();
    let directory = scratch.path("directory").display().to_string();
    let paths = nix.add_closure(40, 2_000_000, 6);
    let publisher = Place::new(&scratch, "publisher", Some(&nix)).with("OLD", old.s3()).with_keys();
    publisher.run("narutil key generate second-1 -o second");
    publisher.run(&format!("narutil push {} --to \"$OLD\" --key \"$KEY\" --key second", paths[39]));
    publisher.run(&format!("narutil push --add extra={} --to \"$OLD\" --key \"$KEY\"", scratch.path("tree").display()));
    for (index, (from, to)) in [(old.s3(), new.s3()), (new.s3(), directory)].into_iter().enumerate() {
        let place =
            Place::new(&scratch, &format!("move-{index}"), None).with("OLD", &from).with("NEW", &to).with_keys();
        let (place_from, place_to) = (from.clone(), to.clone());
        let script = ["sh", "sh roots", "sh list", "sh copy", "sh roots", "sh list", "sh copy", "sh compare"]
            .map(|name| guide.block(name));
        place.run(&script.concat());
        let moved = fs::read_to_string(place.folder.join("paths")).unwrap();
        let [from, to] = [&from, &to].map(|cache| {
            let document: serde_json::Value =
                serde_json::from_str(&place.run(&format!("narutil info --json '{cache}' 2>/dev/null"))).unwrap();
            ["paths", "narSize", "fileSize", "keys", "unsigned"].map(|key| document[key].clone())
        });
        assert_eq!(from, to);
        assert_eq!(to[0], moved.lines().count());
        let [from, to] = [&place_from, &place_to].map(|cache| {
            let roots = place.run(&format!("narutil roots --json '{cache}'"));
            let mut roots: Vec<serde_json::Value> =
                roots.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            roots.sort_by_key(|root| root["generation"].to_string());
            let members = ["name", "generation", "targets", "paths", "labels"];
            roots.into_iter().map(|root| members.map(|member| root[member].clone())).collect::<Vec<_>>()
        });
        assert_eq!((from.len(), &from), (2, &to));
    }
}

#[test]
fn a_key_is_replaced_while_readers_always_trust_one() {
    let guide = Guide::named("rotate-key.md");
    for nix in nixes() {
        let scratch = Scratch::new();
        let cache = scratch.path("cache");
        let paths = nix.add_closure(10, 500_000, 8);
        let place = Place::new(&scratch, "owner", Some(&nix)).with_keys().with("CACHE", &cache);
        let place = place.with("OLD_KEY", scratch.path("secret")).with("OLD_PUBLIC", scratch.path("public"));
        let place = place.with("NEW_KEY", scratch.path("secret-2")).with("NEW_PUBLIC", scratch.path("public-2"));
        place.run(&format!("narutil push {} --to \"$CACHE\" --key \"$KEY\"", paths[5]));
        place.run(&format!("ln -s {} result", paths[9]));
        let of = |name: &str| format!("{}{}", guide.block("sh"), guide.block(name));
        let is_trusted =
            |public: &str| run(narutil!["verify", "--trusted", scratch.path(public), &cache]).status == Some(0);
        place.run(&of("sh generate"));
        place.run(&of("sh push"));
        assert!(is_trusted("public") && !is_trusted("public-2"));
        place.run(&of("sh sign"));
        assert!(is_trusted("public") && is_trusted("public-2"));
        place.run(&of("sh reader"));
        let configured = place.run("nix show-config 2>/dev/null || nix config show");
        let configured = configured.lines().find(|line| line.starts_with("trusted-public-keys = ")).unwrap().to_owned();
        for public in ["public", "public-2"] {
            let key = fs::read_to_string(scratch.path(public)).unwrap();
            assert!(configured.contains(key.trim()), "{configured}");
        }
        place.run(&of("sh remove"));
        assert!(!is_trusted("public") && is_trusted("public-2"));
        fs::rename(scratch.path("public-2"), scratch.path("public")).unwrap();
        place.fetch(&format!("file://{}", cache.display()), &paths[9..]);
    }
}

#[test]
fn a_cache_of_nix_is_taken_over_with_all_that_is_in_it() {
    let guide = Guide::named("import.md");
    for nix in nixes() {
        let scratch = Scratch::new();
        let [cache, new] = ["cache", "new"].map(|name| scratch.path(name));
        let paths = nix.add_closure(10, 500_000, 8);
        let place = Place::new(&scratch, "owner", Some(&nix)).with_keys();
        let url = format!("file://{}", cache.display());
        let place = place.with("CACHE", &cache).with("NEW", &new).with("SERVER", &url).with("RESULT", &paths[9]);
        place.run(&format!("nix copy --to '{url}' {}", paths[5]));
        place.run(&["look", "sign", "collect"].map(|name| guide.block(&format!("sh {name}"))).concat());

        let key = fs::read_to_string(scratch.path("public")).unwrap();
        let place = place.with("SERVER_KEY", key.trim().to_owned());
        let said =
            place.run(&["paths", "copy", "sign-copy", "rest"].map(|name| guide.block(&format!("sh {name}"))).concat());
        assert!(said.contains("in no cache"), "{said}");
        place.fetch(&format!("file://{}", new.display()), &paths[9..]);
        assert_good(narutil!["audit", "--json", "--contents", "--trusted", scratch.path("public"), &new]);
    }
}

#[test]
fn a_web_server_serves_a_cache_to_nix_and_to_narutil() {
    let guide = Guide::named("web-server.md");
    let Some([nginx]) = programs(["nginx"], "no nginx to serve a cache: install it") else { return };
    for (nix, reader) in nixes().into_iter().zip(nixes()) {
        let scratch = Scratch::new();
        let (cache, run) = (scratch.path("cache"), scratch.path("run"));
        fs::create_dir(&run).unwrap();
        let paths = nix.add_closure(10, 500_000, 8);
        let publisher = Place::new(&scratch, "publisher", Some(&nix)).with_keys().with("CACHE", &cache);
        publisher.run(&format!("narutil push {} --to \"$CACHE\" --key \"$KEY\"", paths[9]));

        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = guide.block("nginx nginx.conf").replace("8080", &format!("127.0.0.1:{port}"));
        let server = server.replace("/mnt/cache", cache.to_str().unwrap());
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let run = run.display();
        let settings = format!(
            "{user} daemon off; pid {run}/pid; error_log {run}/log;\nevents {{}}\nhttp {{ access_log off;
            client_body_temp_path {run}/body; proxy_temp_path {run}/proxy; fastcgi_temp_path {run}/fastcgi;
            uwsgi_temp_path {run}/uwsgi; scgi_temp_path {run}/scgi;\n{server} }}"
        );
        let mut command = Command::new(&nginx);
        command.arg("-c").arg(scratch.file("nginx.conf", settings.as_bytes())).stdin(Stdio::null());
        let process = start(command);
        let started = std::time::Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "nginx does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        let url = format!("http://127.0.0.1:{port}");
        let place = Place::new(&scratch, "reader", Some(&reader)).with_keys().with("SERVER", &url);
        let place = place.with("APP", &paths[9]);
        place.run(&guide.block("sh reader"));
        place.run(&format!("nix-store --realise {}", paths[9]));
        place.run("nix-store --verify --check-contents");
        place.run(&guide.block("sh pull"));

        let guide = Guide::named("developer.md");
        let key = fs::read_to_string(scratch.path("public")).unwrap();
        let place = Place::new(&scratch, "developer", Some(&reader)).with("SUBSTITUTER", &url).with("APP", &paths[9]);
        let place = place.with("PUBLIC_KEY", key.trim().to_owned());
        place.run(&guide.block("sh"));
        assert!(place.run(&guide.block("sh check")).contains(&paths[9]));
        kill(process);
    }
}

#[test]
fn the_pages_name_commands_and_options_that_there_are() {
    let help = |arguments: &[&str]| {
        let mut command = narutil!["help"];
        command.args(arguments);
        run(command).text()
    };
    let subcommands = |help: &str| {
        let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        names.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let reference =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/commands.md")).unwrap();
    let mut helps = help(&[]);
    for command in subcommands(&helps.clone()) {
        if !["help", "completions", "man"].contains(&command.as_str()) {
            assert!(reference.contains(&format!("`{command} ")), "commands.md does not name {command}");
        }
        let text = help(&[&command]);
        for subcommand in subcommands(&text).iter().filter(|name| *name != "help") {
            helps += &help(&[&command, subcommand]);
        }
        helps += &text;
    }
    let options = |text: &str| {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        words
            .filter(|word| word.len() > 3 && word.starts_with("--") && !word.starts_with("---"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let known: std::collections::BTreeSet<String> = options(&helps).into_iter().collect();
    let pages = ["concepts/audit", "concepts/roots", "concepts/trust", "reference/commands", "reference/rights"];
    for page in pages {
        let text = fs::read_to_string(format!("{}/../../docs/{page}.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
        for option in options(&text) {
            let is_of_nix = ["--dump-db", "--load-db"].contains(&option.as_str());
            assert!(known.contains(&option) || is_of_nix, "{page}.md: there is no option {option}");
        }
    }
}
