//! Resource names (AIP-122) of top-level resources, `{collection}/{uuid}`, and ids that callers choose.

use uuid::Uuid;

/// The id in `name` when it is a name in `collection`, spelt the one way that a name has.
pub fn id(collection: &str, name: &str) -> Option<Uuid> {
    let segment = name.strip_prefix(collection)?.strip_prefix('/')?;
    spelt(segment).filter(|id| id.to_string() == segment)
}

/// The name of `id` in `collection`.
pub fn name(collection: &str, id: Uuid) -> String {
    format!("{collection}/{id}")
}

/// The etag (AIP-154) of the version `version` of a resource.
pub fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

/// The longest etag, in characters.
const ETAG_CHARACTERS_MAX: usize = 64;

/// The etag of a request: none when empty. The error says what it must be.
pub fn given_etag(text: String) -> Result<Option<String>, &'static str> {
    if text.chars().count() > ETAG_CHARACTERS_MAX {
        return Err("must have at most 64 characters");
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// A `request_id` (AIP-155): none when empty. The error says what it must be.
pub fn request_id(text: &str) -> Result<Option<Uuid>, &'static str> {
    if text.is_empty() { Ok(None) } else { spelt(text).map(Some).ok_or("must be a UUID or empty") }
}

/// A UUID with hyphens; the other spellings that the parser knows are nobody's.
fn spelt(text: &str) -> Option<Uuid> {
    const CHARACTERS: usize = 36;
    Uuid::try_parse(text).ok().filter(|_| text.len() == CHARACTERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, valid: bool) {
        assert_eq!(id("users", text).is_some(), valid, "{text}");
    }

    #[test]
    fn a_name_has_one_spelling() {
        check("users/0198d5a5-7e0e-7b41-8d1c-1f6b1f0f9a11", true);
        check("users/0198D5A5-7E0E-7B41-8D1C-1F6B1F0F9A11", false);
        check("users/0198d5a57e0e7b418d1c1f6b1f0f9a11", false);
        check("orders/0198d5a5-7e0e-7b41-8d1c-1f6b1f0f9a11", false);
        check("users/", false);
        check("users", false);
        check("", false);
    }

    #[test]
    fn a_request_id_is_a_uuid_or_empty() {
        assert_eq!(request_id(""), Ok(None));
        assert!(request_id("0198D5A5-7E0E-7B41-8D1C-1F6B1F0F9A11").is_ok_and(|id| id.is_some()));
        assert!(request_id("once").is_err());
    }
}
