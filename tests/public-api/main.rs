//! Prints the public API of a crate, one item a line, from the JSON that rustdoc makes of it:
//! `public-api FILE`. `tests/public-api/run` calls it.

use std::process::ExitCode;

use public_api::Builder;

fn main() -> ExitCode {
    let Some(file) = std::env::args_os().nth(1) else {
        eprintln!("usage: public-api FILE");
        return ExitCode::from(2);
    };
    // Without the items that every type has from a blanket or automatic implementation.
    let api = Builder::from_rustdoc_json(&file)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build();
    match api {
        Ok(api) => {
            println!("{api}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}
