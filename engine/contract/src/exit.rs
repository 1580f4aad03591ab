//! Why an engine ended: an exit code and one JSON line in the termination message, which the operator turns into a reason.

use serde::{Deserialize, Serialize};

use crate::words::words;

words! {
    /// Closed set of ends that somebody can act on.
    Reason {
        /// A flag or its value is wrong.
        InvalidConfiguration = "InvalidConfiguration",
        /// There is no model at the given place.
        ModelNotFound = "ModelNotFound",
        /// The model is there and cannot be loaded.
        ModelLoadFailed = "ModelLoadFailed",
        /// Memory ran out while loading or in a step.
        OutOfMemory = "OutOfMemory",
        /// The CPU lacks what the binary was built for.
        UnsupportedCpu = "UnsupportedCpu",
        /// There is no such device, or no driver for it that works.
        DeviceUnavailable = "DeviceUnavailable",
        /// The device is there, and older than what the binary was built for.
        UnsupportedDevice = "UnsupportedDevice",
        /// The port is taken or may not be opened.
        AddressInUse = "AddressInUse",
        /// Anything else.
        Internal = "Internal",
    }
}

impl Reason {
    /// Exit code of the process, in the manner of sysexits.h.
    pub const fn code(self) -> u8 {
        match self {
            Self::InvalidConfiguration => 64,
            Self::ModelNotFound => 66,
            Self::ModelLoadFailed => 65,
            Self::OutOfMemory => 71,
            Self::UnsupportedCpu | Self::DeviceUnavailable | Self::UnsupportedDevice => 69,
            Self::AddressInUse => 73,
            Self::Internal => 70,
        }
    }
}

/// The line in the termination message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Termination {
    /// What ended the engine.
    pub reason: Reason,
    /// For people: what could not be done, why, and what to do.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_termination_travels_as_one_json_line() {
        let line = serde_json::to_string(&Termination { reason: Reason::ModelNotFound, message: "no file".into() }).unwrap();
        assert_eq!(line, r#"{"reason":"ModelNotFound","message":"no file"}"#);
    }
}
