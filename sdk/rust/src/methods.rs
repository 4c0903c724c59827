//! What the contract lets a client do with each method.

/// A method, by its path.
#[derive(Debug)]
pub(crate) struct Method {
    pub(crate) path: &'static str,
    /// Whether more than one message answers it.
    pub(crate) streams: bool,
    pub(crate) is_repeatable: bool,
    /// The number of the request's field `request_id`, if it has one.
    pub(crate) request_id: Option<u32>,
}

const METHODS: &[Method] = include!("generated/methods.rs");

/// A method of the contract.
pub(crate) fn find(path: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.path == path)
}

/// Whether the contract lets a client send a call again without knowing what became of the first: because it changes nothing,
/// or by a `request_id`. The method is its path, `/package.Service/Method`.
pub fn is_repeatable(path: &str) -> bool {
    find(path).is_some_and(|method| method.is_repeatable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_do_harm_twice_is_not_repeatable() {
        for (path, expected) in [
            ("/tailrace.order.v1.OrderService/CreateOrder", true),
            ("/tailrace.order.v1.OrderService/GetOrder", true),
            ("/tailrace.auth.v1.AuthService/Logout", true),
            ("/tailrace.auth.v1.AuthService/RefreshToken", false),
            ("/tailrace.relay.v1.RelayService/RedriveDeadLetter", false),
            ("/another.Service/Method", false),
        ] {
            assert_eq!(is_repeatable(path), expected, "{path}");
        }
    }
}
