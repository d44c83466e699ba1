//! What the XML of servers has in common.

use quick_xml::events::BytesRef;

/// The text that `&amp;`, `&#x1;` and their kind stand for.
pub(crate) fn resolved(reference: &BytesRef<'_>) -> String {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return character.to_string();
    }
    let name = std::str::from_utf8(reference).unwrap_or_default();
    quick_xml::escape::resolve_predefined_entity(name).map_or_else(|| format!("&{name};"), str::to_owned)
}
