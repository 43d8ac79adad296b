//! Whether a value is as a JSON Schema says, for tests. Included by path.
//!
//! Only the keywords that `client/ctl/schema.json` uses; another one is an error, so that nothing in it goes unchecked. Stricter than
//! the standard in one thing: an object has no field that the schema doesn't name, so that none goes undescribed.

use serde_json::Value;

/// Asserts that `value` is what `document` says at `#/$defs/NAME`.
#[track_caller]
#[allow(unreachable_pub)]
pub fn assert_valid(document: &Value, name: &str, value: &Value) {
    if let Err(wrong) = check(document, &document["$defs"][name], value, name) {
        panic!("{wrong}\nin {value}");
    }
}

fn check(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let keywords = schema.as_object().ok_or_else(|| format!("no schema of {at}"))?;
    for (keyword, says) in keywords {
        let is_right = match &**keyword {
            "description" | "required" => true,
            "$ref" => {
                let name = says.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                check(document, &document["$defs"][name], value, at).map(|()| true)?
            }
            "const" => says == value,
            "enum" => says.as_array().unwrap().contains(value),
            "type" => has_type(says.as_str().unwrap(), value),
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(document, says, item, &format!("{at}[{i}]"))?;
                }
                true
            }
            "properties" => {
                let fields = value.as_object().ok_or_else(|| format!("{at} is no object"))?;
                for required in keywords.get("required").and_then(Value::as_array).into_iter().flatten() {
                    let name = required.as_str().unwrap();
                    fields.get(name).ok_or_else(|| format!("{at} has no {name}"))?;
                }
                for (name, field) in fields {
                    check(document, &says[name], field, &format!("{at}.{name}"))?;
                }
                true
            }
            "oneOf" | "anyOf" => {
                let tried: Vec<_> =
                    says.as_array().unwrap().iter().map(|one| check(document, one, value, at)).collect();
                let fit = tried.iter().filter(|one| one.is_ok()).count();
                if fit == 0 {
                    let wrong: Vec<_> = tried.into_iter().filter_map(Result::err).collect();
                    return Err(format!("none fits {at}: {}", wrong.join("; ")));
                }
                fit == 1 || keyword == "anyOf"
            }
            other => return Err(format!("{other} at {at} is no keyword that is checked")),
        };
        if !is_right {
            return Err(format!("{at} isn't {keyword} {says}"));
        }
    }
    Ok(())
}

fn has_type(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => false,
    }
}
