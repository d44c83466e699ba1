//! `narutil check`: checks that files are valid NARs.

use nixcache::nar::Observer;

use super::observe;
use crate::cli::{CheckArgs, Common};
use crate::failure::{Failure, Result, Status, for_each};
use crate::input::once_from_standard_input;
use crate::json::{Check, line};
use crate::output::print;

pub(crate) fn run(common: &Common, args: &CheckArgs) -> Result {
    once_from_standard_input(&args.nars)?;
    Ok(for_each(&args.nars, |path| {
        let fault = match observe(common, &args.source, path, Observer::new()) {
            Ok(_) => None,
            // An error in the data is the answer of this command, not a failure of it.
            Err(Failure { status: Status::Bad, message: Some(message) }) => Some(message),
            Err(failure) => return Err(failure),
        };
        let line = match &fault {
            _ if common.json => {
                let path = path.to_string_lossy().into_owned();
                line(&Check { path, ok: fault.is_none(), error: fault.clone() })
            }
            None => "ok".to_owned(),
            Some(fault) => fault.clone(),
        };
        print(line)?;
        Ok(if fault.is_none() { Status::Ok } else { Status::Bad })
    }))
}
