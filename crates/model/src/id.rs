//! Names and numbers that identify things, each with a type of its own so that they can't be
//! exchanged for one another.
//!
//! Names are restricted here, once: whatever holds a name holds a valid one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest name of a node, group, service, pool or check, in bytes (a DNS label, RFC 1035 §2.3.4).
pub const NAME_BYTES_MAX: usize = 63;

/// Longest name of a network device, in bytes (IFNAMSIZ - 1, include/uapi/linux/if.h).
pub const DEVICE_NAME_BYTES_MAX: usize = 15;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name can't be empty")]
    Empty,
    /// The text is too long.
    #[error("a name has at most {max} bytes, this one has {length}")]
    TooLong {
        /// Bytes found.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A character is not allowed at this place.
    #[error("{character:?} is not allowed here: use a-z, A-Z, 0-9, and inside the name also - _ .")]
    Character {
        /// The first character that is not allowed.
        character: char,
    },
    /// A character is not allowed in the name of a device.
    #[error("{character:?} is not allowed in the name of a device")]
    DeviceCharacter {
        /// The first character that is not allowed.
        character: char,
    },
}

fn check_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { length: text.len(), max: NAME_BYTES_MAX });
    }
    let last = text.chars().count() - 1;
    for (position, character) in text.chars().enumerate() {
        let inner = position > 0 && position < last;
        let allowed =
            character.is_ascii_alphanumeric() || (inner && matches!(character, '-' | '_' | '.'));
        if !allowed {
            return Err(NameError::Character { character });
        }
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        // Every decision about hundreds of groups copies names.
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check_name(text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// The name of a node, as its `node.toml` gives it.
    NodeName
}
name! {
    /// The name of a VIP group.
    GroupName
}
name! {
    /// The name of a virtual service.
    ServiceName
}
name! {
    /// The name of a track: something that a director has to see to be fit for a group.
    TrackName
}
name! {
    /// The name of a hook: a program that is run when something happened.
    HookName
}
name! {
    /// The name that the cluster's configuration uses for a network interface; each node's
    /// `node.toml` maps it to a device.
    InterfaceName
}

/// The name of a network device of one node, such as `eth0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName(Arc<str>);

impl DeviceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceName {
    type Err = NameError;

    /// Accepts what the kernel accepts (`dev_valid_name`, net/core/dev.c).
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > DEVICE_NAME_BYTES_MAX {
            return Err(NameError::TooLong { length: text.len(), max: DEVICE_NAME_BYTES_MAX });
        }
        let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        match text.chars().find(|&c| bad(c)) {
            Some(character) => Err(NameError::DeviceCharacter { character }),
            None if text == "." || text == ".." => {
                Err(NameError::DeviceCharacter { character: '.' })
            }
            None => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a node is in its cluster, as its `node.toml` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It forwards traffic and may own VIP groups.
    Director,
    /// It only votes; it never owns a VIP group.
    Witness,
}

/// A text that is no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is \"director\" or \"witness\"")]
pub struct RoleError;

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        match text {
            "director" => Ok(Self::Director),
            "witness" => Ok(Self::Witness),
            _ => Err(RoleError),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Director => "director",
            Self::Witness => "witness",
        })
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// A node's number in its cluster: from a replicated counter, never reused.
    NodeId
}
number! {
    /// The log index of a grant: the fencing token of a VIP group. It only ever rises; 0 is "never
    /// granted".
    Epoch
}
number! {
    /// The number of a replicated configuration; 0 is "none applied yet".
    Revision
}
number! {
    /// A random number of one start of a daemon: a restarted daemon never takes up an old grant.
    Incarnation
}
number! {
    /// The number of one sending of renewals by one incarnation.
    Round
}
number! {
    /// The index of an entry in the Raft log.
    LogIndex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_starts_and_ends_with_a_letter_or_digit() {
        assert!("lb-1.example_x".parse::<NodeName>().is_ok());
        for bad in ["", "-lb", "lb-", "a b", "é", "a/b", &"x".repeat(64)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn a_role_is_read_as_it_is_shown() {
        for role in [Role::Director, Role::Witness] {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert_eq!("Director".parse::<Role>(), Err(RoleError));
    }

    #[test]
    fn a_device_name_is_what_the_kernel_takes() {
        assert!("ens33.100".parse::<DeviceName>().is_ok());
        for bad in ["", ".", "..", "a/b", "a b", "eth0:1", "abcdefghijklmnop"] {
            assert!(bad.parse::<DeviceName>().is_err(), "{bad:?} passed");
        }
    }
}
