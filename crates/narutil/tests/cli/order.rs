//! Output about many narinfos is in the order of their names, with any number of threads.

use crate::cache::{Key, add, cache, full_path, narinfo};
use crate::narutil::{Scratch, narutil, run};

const COUNT: usize = 6_000;

#[test]
fn output_is_the_same_with_any_number_of_threads_and_sorted_by_file_name() {
    let scratch = Scratch::in_memory();
    let key = Key::new(&scratch, "k-1");
    let cache = cache(&scratch, 0);
    for number in (0..COUNT).rev() {
        let text = match number % 10 {
            0 => narinfo(number),
            1 => "StorePath: x\n".to_owned(),
            _ if number < 200 => key.sign(&narinfo(number)),
            // Signing takes most of the time, and a signature that fails is as good here.
            _ => format!("{}Note: x\nSig: k-1:{}==\n", narinfo(number), "A".repeat(86)),
        };
        add(&cache, number, &text);
    }
    let public = key.public();
    let commands = [
        &["verify", "--trusted", &public][..],
        &["verify", "--json", "--trusted", &public],
        &["narinfo", "check"],
        &["narinfo", "check", "--json"],
        &["narinfo", "show", "--json"],
        &["sign", "--dry-run", "-q", "--key", key.file.to_str().unwrap()],
        &["sign", "--dry-run", "-q", "--json", "--key", key.file.to_str().unwrap()],
    ];
    for arguments in commands {
        let outputs = ["1", "2", "7"].map(|threads| {
            let mut command = narutil!["-j", threads];
            let ran = run({
                command.args(arguments).arg(&cache);
                command
            });
            (ran.status, ran.stdout, ran.stderr)
        });
        assert_eq!(outputs[0].0, outputs[1].0, "{arguments:?}");
        assert!(outputs[0] == outputs[1] && outputs[0] == outputs[2], "{arguments:?}");
        assert!(!outputs[0].1.is_empty());
    }
    let printed = String::from_utf8(run(narutil!["verify", "--trusted", key.public(), &cache]).stdout).unwrap();
    assert_eq!(printed.lines().count(), COUNT);
    for (number, line) in printed.lines().enumerate().filter(|(number, _)| number % 10 != 1) {
        assert_eq!(line.split("  ").nth(1), Some(full_path(number).as_str()));
        assert_eq!(line.starts_with("ok"), (2..200).contains(&number) && number % 10 != 0, "{line}");
    }
}
