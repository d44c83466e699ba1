//! `narutil doctor`: checks a set-up, and says what to change.

use nixcache_client::doctor::{Check, DoctorOptions, Outcome, examine};

use crate::cache::{run as block_on, url};
use crate::cli::{Common, DoctorArgs};
use crate::failure::{Result, Status};
use crate::json;
use crate::keys::{read_keys, trusted_keys};
use crate::output::{print, print_lines};
use crate::text::visible;

pub(crate) fn run(common: &Common, args: &DoctorArgs) -> Result {
    let cache = args.cache.as_deref().map(url).transpose()?;
    let (store_dir, keys) = (common.store_dir()?, read_keys(&args.keys)?);
    let trusted = if args.trusted.is_empty() { None } else { Some(trusted_keys(&args.trusted)?) };
    let options = DoctorOptions::default().with(|options| {
        options.connection = args.reach.options();
        (options.store_dir, options.keys, options.trusted) = (store_dir, keys, trusted);
        options.write = args.write;
    });
    let checks = block_on(common, async { Ok(examine(cache.as_ref(), &options).await) })?;
    let has_problem = checks.iter().any(|check| check.outcome == Outcome::Problem);
    if common.json {
        print(json::line(&json::Doctor { checks: checks.iter().map(to_json).collect() }))?;
    } else {
        print_lines(&checks.iter().flat_map(lines).collect::<Vec<_>>())?;
    }
    Ok(if has_problem { Status::Bad } else { Status::Ok })
}

fn to_json(check: &Check) -> json::DoctorCheck<'_> {
    json::DoctorCheck {
        subject: check.subject,
        outcome: check.outcome.as_str(),
        message: visible(&check.message),
        advice: check.advice.as_deref().map(visible),
    }
}

/// The check, and the advice below it.
fn lines(check: &Check) -> Vec<String> {
    let message = visible(&check.message);
    let line = format!("{:<8} {:<20} {message}", check.outcome.as_str(), check.subject);
    let advice = check.advice.as_ref().map(|advice| format!("{:<8} {:<20} {}", "", "", visible(advice)));
    std::iter::once(line).chain(advice).collect()
}
