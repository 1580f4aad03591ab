//! Chat templates: Jinja as Hugging Face renders it.

use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, context};

use super::TextError;
use super::tool_calls::ToolCallFormat;

const NAME: &str = "chat";
/// Marks errors that the template raised itself.
const RAISED: &str = "raise_exception: ";

/// A compiled chat template with the special tokens that it may name.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
}

/// What a chat request says besides its messages.
#[derive(Debug, Clone, Default)]
pub struct ChatOptions {
    /// Ends the prompt where the assistant's turn begins.
    pub add_generation_prompt: bool,
    /// Tools in OpenAI's shape.
    pub tools: Option<serde_json::Value>,
    /// Further variables of the template (`chat_template_kwargs`).
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl ChatTemplate {
    /// Compiles a template; an error names the line.
    pub fn compile(source: String, bos_token: String, eos_token: String) -> Result<Self, TextError> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
        });
        environment.add_template_owned(NAME, source).map_err(|error| TextError::BadTemplate(with_line(&error)))?;
        Ok(Self { environment, bos_token, eos_token })
    }

    /// How the model writes tool calls, as far as the template shows it.
    pub fn tool_call_format(&self) -> Option<ToolCallFormat> {
        self.environment.get_template(NAME).ok().and_then(|template| ToolCallFormat::of_template(template.source()))
    }

    /// Renders messages into a prompt.
    pub fn render(&self, messages: &[serde_json::Value], options: &ChatOptions) -> Result<String, TextError> {
        let variables = context! {
            ..Value::from_serialize(&options.extra),
            ..context! {
                messages => messages,
                tools => options.tools,
                add_generation_prompt => options.add_generation_prompt,
                bos_token => self.bos_token,
                eos_token => self.eos_token,
            }
        };
        let rendered = self.environment.get_template(NAME).and_then(|template| template.render(variables));
        rendered.map_err(|error| match error.detail().and_then(|detail| detail.strip_prefix(RAISED)) {
            Some(message) => TextError::Rejected(message.to_owned()),
            None => TextError::Render(with_line(&error)),
        })
    }
}

fn with_line(error: &Error) -> String {
    match error.line() {
        Some(line) => format!("line {line}: {}", error.detail().unwrap_or("syntax error")),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
        {{ '<|im_start|>system\nBe helpful<|im_end|>\n' }}{% endif %}\
        {{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    fn compile(source: &str) -> ChatTemplate {
        ChatTemplate::compile(source.to_owned(), "<s>".into(), "</s>".into()).unwrap()
    }

    #[test]
    fn messages_become_a_prompt_that_ends_where_the_assistant_begins() {
        let options = ChatOptions { add_generation_prompt: true, ..ChatOptions::default() };
        let prompt = compile(CHATML).render(&[json!({"role": "user", "content": "Hi"})], &options).unwrap();
        let expected = "<|im_start|>system\nBe helpful<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(prompt, expected);
    }

    #[test]
    fn what_a_template_raises_reaches_the_caller_word_for_word() {
        let template = compile("{{ raise_exception('roles must alternate') }}");
        let error = template.render(&[], &ChatOptions::default()).unwrap_err();
        assert!(matches!(error, TextError::Rejected(message) if message == "roles must alternate"));
    }

    #[test]
    fn a_broken_template_names_its_line() {
        let error = ChatTemplate::compile("ok\n{% if %}".into(), String::new(), String::new()).err().unwrap();
        assert!(error.to_string().contains("line 2"), "{error}");
    }

    #[test]
    fn python_methods_work_in_templates() {
        let template = compile("{{ messages[0].content.strip().split(' ')[1] }}{{ bos_token }}");
        let prompt = template.render(&[json!({"content": " a b "})], &ChatOptions::default()).unwrap();
        assert_eq!(prompt, "b<s>");
    }
}
