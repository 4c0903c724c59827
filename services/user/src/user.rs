//! What a user is. Every value here is valid: the constructors are the only way in, and agree with the `buf.validate` rules
//! of the contract.

use std::fmt;

use jiff::Timestamp;
use tailrace_runtime::resource;
use uuid::Uuid;

use crate::error::Kind;

/// The collection of users' resource names.
pub const COLLECTION: &str = "users";
/// The version of a new user.
pub const FIRST_VERSION: i64 = 1;
/// The longest display name, in characters.
pub const DISPLAY_NAME_CHARACTERS_MAX: usize = 100;
/// The longest e-mail address, in characters.
pub const EMAIL_CHARACTERS_MAX: usize = 254;
/// The longest label of an e-mail address' domain, in characters.
const EMAIL_LABEL_CHARACTERS_MAX: usize = 63;
/// The shortest password that may be chosen, in characters.
pub const PASSWORD_CHARACTERS_MIN: usize = 8;
/// The longest password, in characters.
pub const PASSWORD_CHARACTERS_MAX: usize = 128;

/// A user as stored, without the password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// The id, a UUID of version 7.
    pub id: Uuid,
    /// The name shown to people.
    pub display_name: DisplayName,
    /// The address to sign in with.
    pub email: Email,
    /// Counts the changes, from [`FIRST_VERSION`], without a gap.
    pub version: i64,
    /// When the user was created.
    pub create_time: Timestamp,
    /// When the user was last changed.
    pub update_time: Timestamp,
    /// When the user was deleted, if he is.
    pub delete_time: Option<Timestamp>,
}

/// What may become of a user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// These of his fields become other ones.
    Update {
        /// His new name.
        display_name: Option<DisplayName>,
        /// His new address.
        email: Option<Email>,
    },
    /// He is deleted.
    Delete,
    /// He is deleted no longer.
    Undelete,
}

impl User {
    /// The user after a change. An `etag`, when given, must be the user's: nobody changed him in between.
    pub(crate) fn changed(self, change: &Change, etag: Option<&str>, now: Timestamp) -> Result<Self, Kind> {
        let deleted = self.delete_time.is_some();
        match change {
            // AIP-164: who is deleted cannot be deleted again, as if he were not there.
            Change::Delete if deleted => return Err(Kind::NotFound),
            Change::Undelete if !deleted => return Err(Kind::NotDeleted),
            Change::Update { .. } if deleted => return Err(Kind::Deleted),
            Change::Update { .. } | Change::Delete | Change::Undelete => {}
        }
        if etag.is_some_and(|etag| etag != resource::etag(self.version)) {
            return Err(Kind::EtagMismatch);
        }
        let next = Self { version: self.version + 1, update_time: now, ..self };
        Ok(match change.clone() {
            Change::Update { display_name, email } => Self {
                display_name: display_name.unwrap_or(next.display_name),
                email: email.unwrap_or(next.email),
                ..next
            },
            Change::Delete => Self { delete_time: Some(now), ..next },
            Change::Undelete => Self { delete_time: None, ..next },
        })
    }
}

/// What a value must be; the text completes "the field …".
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub(crate) &'static str);

/// The name shown to people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DisplayName(String);

impl DisplayName {
    /// 1 to [`DISPLAY_NAME_CHARACTERS_MAX`] characters, none a control character.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        let length = text.chars().count();
        if !(1..=DISPLAY_NAME_CHARACTERS_MAX).contains(&length) || text.chars().any(char::is_control) {
            return Err(Invalid("must have 1 to 100 characters, none a control character"));
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An address to sign in with.
#[derive(Clone, Eq, PartialEq)]
pub struct Email(String);

impl Email {
    /// An address as HTML forms accept it, at most [`EMAIL_CHARACTERS_MAX`] characters.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        if text.len() > EMAIL_CHARACTERS_MAX || !is_address(&text) {
            return Err(Invalid("must be an e-mail address of at most 254 characters"));
        }
        Ok(Self(text))
    }

    /// The text, as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Addresses stay out of logs.
impl fmt::Debug for Email {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Email(…)")
    }
}

/// A password in the clear, on its way to the hasher.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// A password that may be chosen: [`PASSWORD_CHARACTERS_MIN`] to [`PASSWORD_CHARACTERS_MAX`] characters.
    pub fn chosen(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        if !(PASSWORD_CHARACTERS_MIN..=PASSWORD_CHARACTERS_MAX).contains(&text.chars().count()) {
            return Err(Invalid("must have 8 to 128 characters"));
        }
        Ok(Self(text))
    }

    /// A password that someone signs in with: 1 to [`PASSWORD_CHARACTERS_MAX`] characters.
    pub fn offered(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        if !(1..=PASSWORD_CHARACTERS_MAX).contains(&text.chars().count()) {
            return Err(Invalid("must have 1 to 128 characters"));
        }
        Ok(Self(text))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(…)")
    }
}

/// The grammar of the HTML standard, which `buf.validate` uses too.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let local_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte);
    !local.is_empty() && local.bytes().all(local_byte) && domain.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    (1..=EMAIL_LABEL_CHARACTERS_MAX).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_email(text: &str, valid: bool) {
        assert_eq!(Email::new(text).is_ok(), valid, "{text}");
    }

    #[test]
    fn an_email_address_is_what_html_forms_accept() {
        check_email("ada@example.org", true);
        check_email("a.b+c_d'e@x", true);
        check_email("ada@sub-domain.example.org", true);
        check_email("", false);
        check_email("ada", false);
        check_email("@example.org", false);
        check_email("ada@", false);
        check_email("ada@@example.org", false);
        check_email("ada@example..org", false);
        check_email("ada@-example.org", false);
        check_email("ada @example.org", false);
        check_email("ädä@example.org", false);
        check_email(&format!("ada@{}.org", "x".repeat(EMAIL_LABEL_CHARACTERS_MAX + 1)), false);
        let tail = "@example.org";
        check_email(&format!("{}{tail}", "a".repeat(EMAIL_CHARACTERS_MAX - tail.len())), true);
        check_email(&format!("{}{tail}", "a".repeat(EMAIL_CHARACTERS_MAX + 1 - tail.len())), false);
    }

    #[test]
    fn lengths_count_characters_and_not_bytes() {
        assert!(DisplayName::new("é".repeat(DISPLAY_NAME_CHARACTERS_MAX)).is_ok());
        assert!(DisplayName::new("é".repeat(DISPLAY_NAME_CHARACTERS_MAX + 1)).is_err());
        assert!(DisplayName::new("").is_err());
        assert!(DisplayName::new("a\u{85}b").is_err());
        assert!(Password::chosen("é".repeat(PASSWORD_CHARACTERS_MIN)).is_ok());
        assert!(Password::chosen("é".repeat(PASSWORD_CHARACTERS_MIN - 1)).is_err());
        assert!(Password::chosen("é".repeat(PASSWORD_CHARACTERS_MAX + 1)).is_err());
        assert!(Password::offered("x").is_ok());
    }

    #[test]
    fn addresses_and_passwords_do_not_print() {
        let email = Email::new("ada@example.org").expect("an address");
        let password = Password::offered("correct horse").expect("a password");
        let printed = format!("{email:?} {password:?}");
        assert!(!printed.contains("ada") && !printed.contains("horse"), "{printed}");
    }
}
