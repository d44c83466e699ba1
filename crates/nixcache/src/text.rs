//! Texts in messages.

/// The beginning of an untrusted text, escaped: about as much as fits on a line of a terminal.
pub(crate) fn excerpt(text: &str) -> String {
    const LIMIT: usize = 72;
    let mut excerpt = String::new();
    for character in text.chars() {
        if excerpt.len() >= LIMIT {
            excerpt.push('…');
            break;
        }
        excerpt.extend(character.escape_debug());
    }
    excerpt
}
