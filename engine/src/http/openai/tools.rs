//! `tools` and `tool_choice`: what the model is told about, what it may or must call, and how its calls are found in its text.

use serde_json::{Value, json};

use super::super::error::ApiError;
use super::fields::{Fields, must_be};
use super::response_format::Form;
use crate::text::grammar::{Grammar, bounded, literal};
use crate::text::tool_calls::{Framing, ToolCallFormat, ToolCallParser};

/// Longest name of a function, as OpenAI has it.
const LONGEST_NAME: usize = 64;

/// Tools of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tools {
    /// As the client wrote them.
    list: Vec<Value>,
    functions: Vec<Function>,
    choice: ToolChoice,
    /// Several calls in one answer.
    parallel: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Function {
    name: String,
    /// Schema of its arguments, an object.
    parameters: Value,
}

#[derive(Debug, Clone, Default, PartialEq)]
enum ToolChoice {
    /// The model answers with text.
    #[default]
    None,
    /// The model decides.
    Auto,
    /// At least one call.
    Required,
    /// A call of this function.
    Function(String),
}

/// What the tools mean for prompt, tokens and text.
#[derive(Debug, Default)]
pub struct ToolPlan {
    /// Tools for the chat template.
    pub template: Option<Value>,
    /// Form of the answer: the request's own, or that of the calls that it must make.
    pub form: Option<Form>,
    /// Finds calls in the text of one sequence.
    pub parser: Option<ToolCallParser>,
}

impl Tools {
    /// Takes the fields.
    pub fn take(fields: &mut Fields) -> Result<Self, ApiError> {
        refuse_functions(fields)?;
        let list = fields.list("tools")?.unwrap_or_default();
        let functions = list.iter().enumerate().map(|(index, tool)| function(index, tool)).collect::<Result<Vec<_>, _>>()?;
        for (index, function) in functions.iter().enumerate() {
            if functions[..index].iter().any(|other| other.name == function.name) {
                return Err(wrong(format!("tools[{index}].function.name"), "a name that no other tool has"));
            }
        }
        let choice = choice(fields.take("tool_choice"), &functions)?;
        let parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
        Ok(Self { list, functions, choice, parallel })
    }

    /// What they mean for a model that writes calls like this, in a request that asks for this form.
    pub fn plan(self, format: Option<ToolCallFormat>, form: Option<Form>) -> Result<ToolPlan, ApiError> {
        let framing = match self.choice {
            // The model is not told of tools that it may not call.
            ToolChoice::None => return Ok(ToolPlan { form, ..ToolPlan::default() }),
            ToolChoice::Auto => Framing::Format(format.ok_or_else(unknown_format)?),
            ToolChoice::Required => Framing::Array,
            ToolChoice::Function(ref name) => Framing::Arguments(name.clone()),
        };
        let form = match (form, &self.choice) {
            (None, ToolChoice::Auto) => None,
            // An answer that consists of calls has no content for `response_format` to speak of.
            (None | Some(Form { field: "response_format", .. }), ToolChoice::Required | ToolChoice::Function(_)) => {
                Some(Form { field: "tools", grammar: self.grammar(format) })
            }
            (Some(form), _) => return Err(form_and_tools(form.field)),
            (None, ToolChoice::None) => None,
        };
        let parser = Some(ToolCallParser::new(framing, self.parallel));
        Ok(ToolPlan { template: Some(Value::Array(self.list)), form, parser })
    }

    /// The arguments of the one function, or an array of calls. Each function's schema is a grammar of its own, so that
    /// `#/$defs/...` means its own definitions.
    fn grammar(&self, format: Option<ToolCallFormat>) -> Grammar {
        if let ToolChoice::Function(name) = &self.choice {
            let function = self.functions.iter().find(|function| function.name == *name);
            return Grammar::JsonSchema(
                function.map_or_else(|| json!({"type": "object"}), |function| function.parameters.clone()),
            );
        }
        let key = format.map_or("arguments", ToolCallFormat::arguments_key);
        let more = if self.parallel { format!("({} call)*", literal(", ")) } else { String::new() };
        let calls: Vec<String> = (0..self.functions.len()).map(|index| format!("call{index}")).collect();
        let mut lark = format!("start: \"[\" call {more} \"]\"\ncall: {}\n", calls.join(" | "));
        for (index, function) in self.functions.iter().enumerate() {
            let head = literal(&format!("{{\"name\": \"{}\", \"{key}\": ", function.name));
            let schema = bounded(function.parameters.clone());
            lark.push_str(&format!("call{index}: {head} %json {schema} \"}}\"\n"));
        }
        Grammar::Lark(lark)
    }
}

fn refuse_functions(fields: &mut Fields) -> Result<(), ApiError> {
    for (name, instead) in [("functions", "tools"), ("function_call", "tool_choice")] {
        let harmless =
            |value: &Value| value.as_array().is_some_and(Vec::is_empty) || matches!(value.as_str(), Some("none" | "auto"));
        if fields.take(name).is_some_and(|value| !harmless(&value)) {
            return Err(ApiError::unsupported(
                name,
                format!("'{name}' is OpenAI's older way and not supported; send '{instead}'"),
            ));
        }
    }
    Ok(())
}

fn function(index: usize, tool: &Value) -> Result<Function, ApiError> {
    let at = |what: &str| format!("tools[{index}]{what}");
    if tool["type"] != "function" || !tool["function"].is_object() {
        return Err(wrong(at(""), "an object with 'type': 'function' and an object 'function'"));
    }
    let function = &tool["function"];
    let name = function["name"].as_str().filter(|name| is_name(name));
    let name = name.ok_or_else(|| wrong(at(".function.name"), "1 to 64 letters, digits, '_' and '-'"))?;
    if !matches!(function["description"], Value::String(_) | Value::Null) {
        return Err(wrong(at(".function.description"), "a string"));
    }
    let mut parameters = match &function["parameters"] {
        Value::Null => json!({}),
        schema @ Value::Object(_) => schema.clone(),
        _ => return Err(wrong(at(".function.parameters"), "a JSON schema, which is an object")),
    };
    match parameters["type"].as_str() {
        Some("object") => {}
        None if parameters["type"].is_null() => parameters["type"] = "object".into(),
        _ => return Err(wrong(at(".function.parameters.type"), "'object'")),
    }
    Ok(Function { name: name.to_owned(), parameters })
}

fn is_name(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(known)
}

fn choice(value: Option<Value>, functions: &[Function]) -> Result<ToolChoice, ApiError> {
    let choice = match &value {
        None if functions.is_empty() => ToolChoice::None,
        None => ToolChoice::Auto,
        Some(Value::String(word)) => match word.as_str() {
            "none" => ToolChoice::None,
            // Clients send it out of habit, also without tools.
            "auto" if functions.is_empty() => ToolChoice::None,
            "auto" => ToolChoice::Auto,
            "required" => ToolChoice::Required,
            _ => return Err(wrong_choice()),
        },
        Some(object) => match (object["type"].as_str(), object["function"]["name"].as_str()) {
            (Some("function"), Some(name)) => ToolChoice::Function(name.to_owned()),
            _ => return Err(wrong_choice()),
        },
    };
    match &choice {
        ToolChoice::Required if functions.is_empty() => Err(ApiError::invalid("tool_choice", "'tool_choice' needs 'tools'")),
        ToolChoice::Function(name) if functions.iter().all(|function| function.name != *name) => {
            Err(ApiError::invalid("tool_choice", "'tool_choice' names a function that is not among 'tools'"))
        }
        _ => Ok(choice),
    }
}

fn wrong(param: String, what: &str) -> ApiError {
    let message = format!("'{param}' must be {what}");
    ApiError::invalid(param, message)
}

fn wrong_choice() -> ApiError {
    must_be("tool_choice", "'none', 'auto', 'required' or {'type': 'function', 'function': {'name': ...}}")
}

fn unknown_format() -> ApiError {
    let message = "how this model writes tool calls is not known from its chat template; start the engine with \
                   --tool-call-parser hermes or llama3_json, or send 'tool_choice': 'required', which works with any model";
    ApiError::unsupported("tools", message)
}

fn form_and_tools(field: &'static str) -> ApiError {
    let message = format!(
        "'{field}' holds the whole answer to a form, so that no tool could be called; leave it out, or send 'tool_choice': 'none'"
    );
    ApiError::unsupported(field, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(body: &Value) -> Result<Tools, ApiError> {
        Tools::take(&mut Fields::parse(body.to_string().as_bytes()).unwrap())
    }

    fn tool(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}})
    }

    fn plan(body: &Value, format: Option<ToolCallFormat>) -> ToolPlan {
        taken(body).unwrap().plan(format, None).unwrap()
    }

    #[test]
    fn without_tools_there_is_nothing_to_do() {
        for body in
            [json!({}), json!({"tools": [], "tool_choice": "auto"}), json!({"tools": [tool("f")], "tool_choice": "none"})]
        {
            let plan = plan(&body, None);
            assert!(plan.template.is_none() && plan.form.is_none() && plan.parser.is_none(), "{body}");
        }
    }

    #[test]
    fn the_model_decides_unless_it_must() {
        let tools = json!([tool("f"), tool("g")]);
        let auto = plan(&json!({"tools": tools}), Some(ToolCallFormat::Hermes));
        assert_eq!(auto.template, Some(tools.clone()));
        assert!(auto.form.is_none() && auto.parser.is_some());
        let required = plan(&json!({"tools": tools, "tool_choice": "required"}), None);
        assert!(matches!(required.form.unwrap().grammar, Grammar::Lark(_)));
        let named = json!({"tools": tools, "tool_choice": {"type": "function", "function": {"name": "g"}}});
        assert!(matches!(plan(&named, None).form.unwrap().grammar, Grammar::JsonSchema(_)));
    }

    #[test]
    fn an_unknown_format_names_the_flag() {
        let error = taken(&json!({"tools": [tool("f")]})).unwrap().plan(None, None).unwrap_err();
        assert!(error.message.contains("--tool-call-parser"), "{}", error.message);
    }

    #[test]
    fn a_form_and_the_models_choice_exclude_each_other() {
        let form = |field| Some(Form { field, grammar: Grammar::JsonObject });
        let auto = taken(&json!({"tools": [tool("f")]})).unwrap();
        let error = auto.plan(Some(ToolCallFormat::Hermes), form("response_format")).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("response_format"));
        let required = taken(&json!({"tools": [tool("f")], "tool_choice": "required"})).unwrap();
        assert!(required.clone().plan(None, form("response_format")).is_ok());
        assert!(required.plan(None, form("guided_regex")).is_err());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let named = |name: &str| json!({"type": "function", "function": {"name": name}});
        let cases = [
            (json!({"tools": {}}), "tools"),
            (json!({"tools": [1]}), "tools[0]"),
            (json!({"tools": [{"type": "retrieval"}]}), "tools[0]"),
            (json!({"tools": [named("a b")]}), "tools[0].function.name"),
            (json!({"tools": [named(&"x".repeat(65))]}), "tools[0].function.name"),
            (json!({"tools": [named("a"), named("a")]}), "tools[1].function.name"),
            (
                json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}),
                "tools[0].function.parameters",
            ),
            (
                json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]}),
                "tools[0].function.parameters.type",
            ),
            (json!({"tools": [named("f")], "tool_choice": "any"}), "tool_choice"),
            (json!({"tools": [named("f")], "tool_choice": named("g")}), "tool_choice"),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (json!({"functions": [{}]}), "functions"),
            (json!({"function_call": {"name": "f"}}), "function_call"),
        ];
        for (body, expected) in cases {
            assert_eq!(taken(&body).unwrap_err().param.as_deref(), Some(expected), "{body}");
        }
    }

    #[test]
    fn a_functions_definitions_are_its_own() {
        use crate::backend::scripted::EOS;
        use crate::text::bytes;
        use crate::text::grammar::GrammarCompiler;
        let with_defs = |name: &str, definition: Value| {
            let parameters = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "required": ["a"],
                "additionalProperties": false, "$defs": {"A": definition}});
            json!({"type": "function", "function": {"name": name, "parameters": parameters}})
        };
        let tools = json!([with_defs("f", json!({"const": 1})), with_defs("g", json!({"const": 2}))]);
        let plan = plan(&json!({"tools": tools, "tool_choice": "required"}), Some(ToolCallFormat::Llama3Json));
        let compiler = GrammarCompiler::new(&bytes::tokenizer(), &[EOS]).unwrap();
        let mut constraint = compiler.compile(plan.form.unwrap().grammar).unwrap();
        let text = r#"[{"name": "f", "parameters": {"a": 1}}, {"name": "g", "parameters": {"a":2}}]"#;
        for (at, byte) in text.bytes().enumerate() {
            let over = constraint.advance(u32::from(byte)).unwrap_or_else(|_| panic!("{}", &text[..at]));
            assert_eq!(over, at + 1 == text.len());
        }
    }
}
