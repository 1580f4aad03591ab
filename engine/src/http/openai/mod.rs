//! OpenAI's requests and answers, with vLLM's additions. Lenient where a client's habit does no harm (unknown fields, null
//! for absent), strict where leniency would change the answer: what cannot be honoured is refused by name. Pure.

pub mod chat;
pub mod completion;
pub mod fields;
pub mod parameters;
pub mod response_format;
pub mod shape;
pub mod tool_calls;
pub mod tools;
