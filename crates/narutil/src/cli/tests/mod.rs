//! Tests of the command line as a whole.

mod faces;

use clap::{Command, CommandFactory};

use super::Cli;

/// Calls `each` for the program and all its commands, with their names.
fn for_each_command(each: &mut impl FnMut(&str, &Command)) {
    fn visit(name: &str, command: &Command, each: &mut impl FnMut(&str, &Command)) {
        each(name, command);
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            visit(&format!("{name} {}", inner.get_name()), inner, each);
        }
    }
    let mut root = Cli::command();
    root.build();
    visit("narutil", &root, each);
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_a_short_line_of_help_and_two_or_three_examples() {
    for_each_command(&mut |name, command| {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(!about.is_empty() && about.len() <= 90, "{name}: {about}");
        if command.has_subcommands() && name != "narutil" {
            return;
        }
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples = after.strip_prefix("Examples:\n").unwrap_or_else(|| panic!("{name}: {after}"));
        let mut commands = 0;
        for line in examples.lines() {
            assert!(line.starts_with("  ") && line.len() <= 98, "{name}: {line}");
            commands += usize::from(line.contains("narutil "));
        }
        assert!((2..=4).contains(&commands), "{name}: {examples}");
    });
}

#[test]
fn examples_are_command_lines_that_are_accepted() {
    for_each_command(&mut |name, command| {
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in after.lines().filter(|line| line.contains("narutil ")) {
            let line = line.split("  # ").next().unwrap_or_default();
            let start = line.find("narutil ").unwrap_or_default();
            let line = line[start..].split([';', '|', '<', '>']).next().unwrap_or_default();
            let arguments: Vec<std::ffi::OsString> =
                line.split_whitespace().map(|word| word.trim_matches(['\'', '"']).into()).collect();
            let read = crate::arguments::read(&arguments);
            assert!(read.is_ok(), "{name}: {line}: {:?}", read.err());
        }
    });
}

#[test]
fn help_texts_hold_no_schema_of_json() {
    for_each_command(&mut |name, command| {
        let help = command.clone().render_long_help().to_string();
        assert!(!help.contains("STRING") && !help.contains("NUMBER"), "{name}: {help}");
    });
}

#[test]
fn the_nesting_limit_is_an_option_of_the_commands_that_read_or_write_nars() {
    let with = ["pack", "unpack", "ls", "cat", "hash", "check", "scan", "verify", "push", "pull", "audit"];
    for_each_command(&mut |name, command| {
        let expected = with.iter().any(|with| name == format!("narutil {with}"));
        let is_shown = command.get_arguments().any(|arg| arg.get_id() == "max_depth" && !arg.is_hide_set());
        assert_eq!(is_shown, expected, "{name}");
    });
}

#[test]
fn the_nesting_limit_may_stand_before_and_after_the_command() {
    for arguments in [["narutil", "--max-depth", "5", "check", "x"], ["narutil", "check", "x", "--max-depth", "5"]] {
        let cli = crate::arguments::read(&arguments.map(Into::into)).unwrap();
        assert_eq!(cli.common.limits().depth, 5);
    }
}
