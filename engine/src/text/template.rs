//! Chat templates: messages become the prompt that the model was trained on, as Hugging Face's `apply_chat_template` does it.

use minijinja::value::Value;
use minijinja::{Environment, Error, context};
use serde_json::json;

use super::TextError;
use super::jinja::{environment, raised, without_generation_marks};
use super::python_json::value_of;
use super::tool_calls::ToolCallFormat;

const NAME: &str = "chat";

/// A compiled chat template with the special tokens that it may name.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
    /// The template names the role `developer`; others get `system` in its place.
    knows_developer: bool,
}

/// What a chat request says besides its messages.
#[derive(Debug, Clone, Default)]
pub struct ChatOptions {
    /// Ends the prompt where the assistant's turn begins.
    pub add_generation_prompt: bool,
    /// Ends the prompt with the last message's text, for the model to go on with it.
    pub continue_final_message: bool,
    /// Tools in OpenAI's shape.
    pub tools: Option<serde_json::Value>,
    /// Further variables of the template (`chat_template_kwargs`).
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl ChatTemplate {
    /// Compiles a template; an error names the line.
    pub fn compile(source: String, bos_token: String, eos_token: String) -> Result<Self, TextError> {
        let mut environment = environment();
        let knows_developer = source.contains("developer");
        let source = without_generation_marks(&source);
        environment.add_template_owned(NAME, source).map_err(|error| TextError::BadTemplate(with_line(&error)))?;
        Ok(Self { environment, bos_token, eos_token, knows_developer })
    }

    /// Renders the plainest chat there is, so that a template that cannot is found before the first request.
    pub fn try_out(&self) -> Result<(), TextError> {
        let message = json!({"role": "user", "content": "Hello"});
        let options = ChatOptions { add_generation_prompt: true, ..ChatOptions::default() };
        let prompt = self.render_value(&[message], &options);
        prompt
            .map(drop)
            .map_err(|error| TextError::BadTemplate(format!("it cannot render a single user message: {}", with_line(&error))))
    }

    /// How the model writes tool calls, as far as the template shows it.
    pub fn tool_call_format(&self) -> Option<ToolCallFormat> {
        self.environment.get_template(NAME).ok().and_then(|template| ToolCallFormat::of_template(template.source()))
    }

    /// Renders messages into a prompt.
    pub fn render(&self, messages: &[serde_json::Value], options: &ChatOptions) -> Result<String, TextError> {
        let prompt = self.render_value(messages, options).map_err(|error| match raised(&error) {
            Some(message) => TextError::Rejected(message.to_owned()),
            None => TextError::Render(with_line(&error)),
        })?;
        match messages.last() {
            Some(last) if options.continue_final_message => cut_behind(prompt, last["content"].as_str().unwrap_or_default()),
            _ => Ok(prompt),
        }
    }

    fn render_value(&self, messages: &[serde_json::Value], options: &ChatOptions) -> Result<String, Error> {
        let messages: Vec<Value> = messages.iter().map(|message| self.message(message)).collect();
        let tools = options.tools.as_ref().map_or_else(|| Value::from(()), value_of);
        let extra: Value = options.extra.iter().map(|(name, value)| (name.as_str(), value_of(value))).collect();
        // What comes first wins.
        let variables = context! {
            messages => messages,
            tools => tools,
            add_generation_prompt => options.add_generation_prompt,
            bos_token => self.bos_token,
            eos_token => self.eos_token,
            ..context! { ..extra, ..context! { documents => () } }
        };
        self.environment.get_template(NAME)?.render(variables)
    }

    fn message(&self, message: &serde_json::Value) -> Value {
        if self.knows_developer || message["role"] != "developer" {
            return value_of(message);
        }
        let mut message = message.clone();
        message["role"] = "system".into();
        value_of(&message)
    }
}

/// The prompt up to the end of its last message, whose spaces a template may have trimmed.
fn cut_behind(mut prompt: String, message: &str) -> Result<String, TextError> {
    let found = prompt.rfind(message.trim()).filter(|_| !message.trim().is_empty());
    let Some(at) = found else { return Err(TextError::NothingToContinue) };
    let whole = message.trim_start();
    let end = if prompt[at..].starts_with(whole) { at + whole.len() } else { at + message.trim().len() };
    prompt.truncate(end);
    Ok(prompt)
}

fn with_line(error: &Error) -> String {
    match error.line() {
        Some(line) => format!("line {line}: {}", error.detail().unwrap_or("syntax error")),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
        {{ '<|im_start|>system\nBe helpful<|im_end|>\n' }}{% endif %}\
        {{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    fn compile(source: &str) -> ChatTemplate {
        ChatTemplate::compile(source.to_owned(), "<s>".into(), "</s>".into()).unwrap()
    }

    fn render(source: &str, messages: serde_json::Value) -> Result<String, TextError> {
        compile(source).render(messages.as_array().unwrap(), &ChatOptions::default())
    }

    #[test]
    fn messages_become_a_prompt_that_ends_where_the_assistant_begins() {
        let options = ChatOptions { add_generation_prompt: true, ..ChatOptions::default() };
        let prompt = compile(CHATML).render(&[json!({"role": "user", "content": "Hi"})], &options).unwrap();
        let expected = "<|im_start|>system\nBe helpful<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(prompt, expected);
    }

    #[test]
    fn the_last_message_is_left_open_to_be_continued() {
        let options = ChatOptions { continue_final_message: true, ..ChatOptions::default() };
        let continued = |source: &str, text: &str| {
            let messages = [json!({"role": "user", "content": "Once"}), json!({"role": "assistant", "content": text})];
            compile(source).render(&messages, &options).map(|prompt| prompt.rsplit('\n').next().unwrap_or_default().to_owned())
        };
        assert_eq!(continued(CHATML, "Once upon ").unwrap(), "Once upon ");
        let trims = "{% for m in messages %}{{ m.role + '\n' + m.content | trim + '</s>\n' }}{% endfor %}";
        assert_eq!(continued(trims, " Once upon ").unwrap(), "Once upon");
        assert!(matches!(continued("nothing", "Once"), Err(TextError::NothingToContinue)));
        assert!(matches!(continued(CHATML, "  "), Err(TextError::NothingToContinue)));
    }

    #[test]
    fn a_developer_is_the_system_where_the_template_knows_none() {
        let messages = json!([{"role": "developer", "content": "x"}]);
        let roles = "{% for m in messages %}{{ m.role }}{% endfor %}";
        assert_eq!(render(roles, messages.clone()).unwrap(), "system");
        assert_eq!(render(&format!("{roles}{{# developer #}}"), messages).unwrap(), "developer");
    }

    #[test]
    fn a_request_adds_variables_and_replaces_none() {
        let extra = json!({"enable_thinking": false, "messages": "mine", "bos_token": "mine"});
        let options = ChatOptions { extra: extra.as_object().unwrap().clone(), ..ChatOptions::default() };
        let template = compile(
            "{{ enable_thinking }} {{ messages | length }} {{ bos_token }} {{ tools is none }} {{ documents is none }}",
        );
        assert_eq!(template.render(&[], &options).unwrap(), "False 0 <s> True True");
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
    fn a_template_that_cannot_render_a_user_message_is_found_at_once() {
        assert!(compile(CHATML).try_out().is_ok());
        let error = compile("ok\n\n{{ messages[0].nothing.here }}").try_out().unwrap_err();
        assert!(matches!(error, TextError::BadTemplate(_)) && error.to_string().contains("line 3"), "{error}");
    }

    #[test]
    fn python_methods_and_order_of_keys_are_kept() {
        let template = "{{ messages[0].content.strip().split(' ')[1] }}{{ bos_token }}{{ messages[0] | tojson }}";
        let prompt = render(template, json!([{"role": "r", "content": " a b "}])).unwrap();
        assert_eq!(prompt, r#"b<s>{"role": "r", "content": " a b "}"#);
    }
}
