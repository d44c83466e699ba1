//! Why the signatures of a narinfo do not satisfy a policy, in words.

use nixcache::narinfo::NarInfo;
use nixcache::trust::{Standing, Verdict};

/// Signatures that a message explains: a narinfo may have thousands.
const EXPLAINED_MAX: usize = 8;

/// Characters of the name of a key in a message.
const NAME_CHARACTERS_MAX: usize = 72;

/// Why a narinfo does not satisfy a policy that requires signatures by `required` keys; `None` if
/// it does.
pub fn explain(info: &NarInfo<'_>, verdict: &Verdict<'_>, required: usize) -> Option<String> {
    if verdict.is_valid() {
        return None;
    }
    let mut reasons = Vec::new();
    let holding = verdict.keys().collect::<Vec<_>>();
    if holding.is_empty() {
        reasons.push("no valid signature by a trusted key".to_owned());
    } else {
        reasons.push(format!("{} of {required} required signatures ({})", holding.len(), holding.join(", ")));
    }
    let mut faults = verdict.signatures().iter().filter_map(|(name, standing)| fault(verdict, name, *standing));
    reasons.extend(faults.by_ref().take(EXPLAINED_MAX));
    match faults.count() {
        0 => {}
        more => reasons.push(format!("and {more} more")),
    }
    if info.signatures().len() == 0 {
        reasons.push("it has no signature".to_owned());
    }
    if info.content_address().is_some() {
        reasons.push("its content address does not make its path".to_owned());
    }
    Some(reasons.join("; "))
}

/// Why a signature does not count, if it does not.
fn fault(verdict: &Verdict<'_>, name: &str, standing: Standing) -> Option<String> {
    let name: String = name.escape_debug().take(NAME_CHARACTERS_MAX).collect();
    Some(match standing {
        Standing::Fails => format!("the signature by {name} does not verify"),
        Standing::HoldsAsWritten if !verdict.counts(standing) => {
            format!("the signature by {name} holds only over references in the order of the file (see --as-written)")
        }
        Standing::Unknown => format!("{name} is not trusted"),
        Standing::Malformed => "a signature is malformed".to_owned(),
        _ => return None,
    })
}
