//! Times `narutil` beside real Nix, as whole processes, and prints a table in Markdown.
//!
//! ```sh
//! cargo run --release -p benches --bin versus-nix [ROUNDS] [WORK…]
//! ```
//!
//! Seven rounds unless told otherwise, and only the works whose names begin with one of the words,
//! if there are any. In each round every program does the work once, so that other load on the
//! machine meets all of them. A round before those warms the page cache. What is unpacked goes
//! to memory, what is written otherwise goes nowhere. The ratios are those of the medians.
//!
//! The Nix to beat is each one whose `bin` directory `NIXCACHE_NIX` lists, separated by colons, or
//! the one on `PATH`; `narutil` is the one that `NARUTIL` names, or else is built.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use benches::{large, memory_directory, nar, narutil, peak, report_peak, small};
use conformance::{Nix, nixes};

/// Something that both can do.
struct Work {
    name: &'static str,
    /// What it is done to.
    input: PathBuf,
    /// Its arguments for `narutil`.
    ours: Arguments,
    /// The program of Nix.
    program: &'static str,
    /// Its arguments.
    theirs: Arguments,
}

/// Adds arguments: the input, and where to put what comes out.
type Arguments = for<'a> fn(&'a mut Command, &Path, &Path) -> &'a mut Command;

fn works() -> Vec<Work> {
    let (small, large) = (small(), large());
    let hash = |name, input| Work {
        name,
        input,
        ours: |command, input, _| command.args(["-q", "hash"]).arg(input),
        program: "nix",
        theirs: |command, input, _| command.args(["hash", "path"]).arg(input),
    };
    let pack = |name, input| Work {
        name,
        input,
        ours: |command, input, _| command.args(["-q", "pack"]).arg(input),
        program: "nix-store",
        theirs: |command, input, _| command.arg("--dump").arg(input),
    };
    vec![
        hash("hash, small files", small.clone()),
        hash("hash, large files", large.clone()),
        pack("pack, small files", small.clone()),
        pack("pack, large files", large),
        Work {
            name: "unpack, small files",
            input: nar(&small),
            ours: |command, input, dest| command.args(["-q", "unpack"]).arg(input).arg(dest),
            program: "nix-store",
            theirs: |command, _, dest| command.arg("--restore").arg(dest),
        },
        Work {
            name: "ls -R, small files",
            input: nar(&small),
            ours: |command, input, _| command.args(["-q", "ls", "-R"]).arg(input),
            program: "nix",
            theirs: |command, input, _| command.args(["nar", "ls", "-R"]).arg(input).arg("/"),
        },
    ]
}

/// Who does the work: `narutil`, or a Nix.
enum Program<'a> {
    Narutil(&'a Path),
    Nix(&'a Nix),
}

impl Program<'_> {
    fn command(&self, work: &Work, dest: &Path) -> Command {
        let mut command = match self {
            Self::Narutil(path) => Command::new(path),
            Self::Nix(nix) => nix.command(work.program),
        };
        match self {
            Self::Narutil(_) => (work.ours)(&mut command, &work.input, dest),
            Self::Nix(_) => (work.theirs)(&mut command, &work.input, dest),
        };
        // `nix-store --restore` reads it, the others do not.
        command.stdin(File::open(&work.input).unwrap()).stdout(Stdio::null());
        command
    }

    /// Does the work once. What came out is removed after the time was taken.
    fn time(&self, work: &Work) -> Duration {
        let scratch = tempfile::tempdir_in(memory_directory()).unwrap();
        let mut command = self.command(work, &scratch.path().join("tree"));
        let start = Instant::now();
        let status = command.status().unwrap();
        let elapsed = start.elapsed();
        assert!(status.success(), "{command:?}: {status}");
        elapsed
    }

    /// Does the work once, for the memory that it takes at most.
    fn peak(&self, work: &Work) -> u64 {
        let scratch = tempfile::tempdir_in(memory_directory()).unwrap();
        let command = self.command(work, &scratch.path().join("tree"));
        peak(&command, File::open(&work.input).unwrap().into())
    }
}

/// What was measured of one program.
struct Measurement {
    times: Vec<Duration>,
    peak: u64,
}

impl Measurement {
    fn median(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort();
        let middle = times.len() / 2;
        if times.len() % 2 == 1 { times[middle] } else { (times[middle - 1] + times[middle]) / 2 }
    }

    /// Median, and from where to where the times go.
    fn show(&self) -> String {
        let milliseconds = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e3);
        let [min, max] = [self.times.iter().min(), self.times.iter().max()].map(|time| milliseconds(*time.unwrap()));
        format!("{} ms ({min}–{max})", milliseconds(self.median()))
    }
}

fn measure(work: &Work, programs: &[Program<'_>], rounds: usize) -> Vec<Measurement> {
    // Before the rounds, so that it warms the cache as well.
    let peaks = programs.iter().map(|program| program.peak(work));
    let mut measurements: Vec<_> = peaks.map(|peak| Measurement { times: Vec::new(), peak }).collect();
    for _ in 0..rounds {
        for (program, measurement) in programs.iter().zip(&mut measurements) {
            measurement.times.push(program.time(work));
        }
    }
    measurements
}

fn main() {
    report_peak();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds = arguments.first().and_then(|first| first.parse().ok());
    let names = &arguments[usize::from(rounds.is_some())..];
    let rounds = rounds.unwrap_or(7).max(1);

    let (narutil, nixes) = (narutil(), nixes());
    let programs: Vec<_> = [Program::Narutil(&narutil)].into_iter().chain(nixes.iter().map(Program::Nix)).collect();
    let wanted = |work: &Work| names.is_empty() || names.iter().any(|name| work.name.starts_with(name));

    println!("| work | narutil | Nix | its time | narutil is faster by | memory, narutil | memory, Nix |");
    println!("|---|---|---|---|---|---|---|");
    for work in works().iter().filter(|work| wanted(work)) {
        let measurements = measure(work, &programs, rounds);
        let (ours, theirs) = measurements.split_first().unwrap();
        for (nix, theirs) in nixes.iter().zip(theirs) {
            println!(
                "| {} | {} | {} | {} | {:.2}× | {} MiB | {} MiB |",
                work.name,
                ours.show(),
                nix.version(),
                theirs.show(),
                theirs.median().as_secs_f64() / ours.median().as_secs_f64(),
                ours.peak >> 20,
                theirs.peak >> 20,
            );
        }
    }
}
