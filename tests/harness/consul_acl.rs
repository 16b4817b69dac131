//! Tokens and policies of a Consul with ACLs.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};

use super::consul::{Http, expect_ok};

/// Gets the management token. Consul returns it once.
pub async fn bootstrap(http: &Http) -> anyhow::Result<String> {
    let answer = expect_ok(http.request(Method::PUT, "acl/bootstrap")).await?;
    text(&serde_json::from_str(&answer)?, "SecretID")
}

impl Http {
    /// Creates or replaces a policy. Its tokens have the new rules immediately.
    pub async fn set_policy(&self, name: &str, rules: &str) -> anyhow::Result<()> {
        let policies = self.json(Method::GET, "acl/policies", &Value::Null).await?;
        let policies = policies.as_array().context("not a list of policies")?;
        let known = policies.iter().find(|policy| policy["Name"] == name);
        let path = match known {
            Some(policy) => format!("acl/policy/{}", text(policy, "ID")?),
            None => "acl/policy".to_owned(),
        };
        self.json(Method::PUT, &path, &json!({ "Name": name, "Rules": rules })).await.map(drop)
    }

    /// Creates a token with one policy and returns its secret.
    pub async fn new_token(&self, policy: &str) -> anyhow::Result<String> {
        let token = self.json(Method::PUT, "acl/token", &json!({ "Policies": [{ "Name": policy }] })).await?;
        text(&token, "SecretID")
    }

    /// Deletes the token with this secret.
    pub async fn delete_token(&self, secret: &str) -> anyhow::Result<()> {
        // The token's own accessor id is needed.
        let own = self.with_token(secret).json(Method::GET, "acl/token/self", &Value::Null).await?;
        let path = format!("acl/token/{}", text(&own, "AccessorID")?);
        expect_ok(self.request(Method::DELETE, &path)).await.map(drop)
    }
}

fn text(value: &Value, field: &str) -> anyhow::Result<String> {
    value[field].as_str().map(str::to_owned).with_context(|| format!("no {field} in {value}"))
}
