"""Secrets are found by the name of their key and by their form; ordinary keys, paths and names stay."""

from __future__ import annotations

import pytest

from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.messages import msg
from lorabake_schemas.secrets import copy_without_secrets, hide_all_secrets, hide_secrets, is_secret

LONG = "hf_abcdefghijKLMNOPQRSTuvwxyz01234567"


@pytest.mark.parametrize(
    "name",
    ["civitai_token", "my_password", "wandb_key", "api_secret_key", "HF_TOKEN_READ", "s3_credentials", "hub_key",
     "hf.key", "--mykey", "--secret_thing", "wandb_api_key", "WANDB API Key", "huggingface_token", "id-token",
     "hf_auth", "accessToken", "apikey", "secrets.hf", "AWS_ACCESS_KEY_ID", "datasets[0].hf_token",
     "db_passwd", "hftoken", "DB_PASS", "--pass"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)
    assert ImportedKey(key=name, value="x1y2z", trained="x1y2z", fate="unknown").model_dump()["value"] == ""


@pytest.mark.parametrize(
    "name",
    ["keep_tokens", "max_token_length", "class_tokens", "token", "keep_tokens_separator", "tokenizer_cache_dir",
     "concept.token", "token_warmup_min", "token_count", "metadata_author", "no_token_padding", "Token string",
     "trigger_token", "pad_token_id", "num_vectors_per_token", "shuffle_tokens", "image_key", "first_stage_key",
     "finetune_keys", "ldm_diffusers_keymap", "scheduler_params[0].key", "monkey", "secretary", "file_key",
     "lora_key", "first_pass", "passes", "bypass", "anima_t5_max_token_length"],
)  # fmt: skip
def test_names_of_other_things(name: str) -> None:
    assert not is_secret(name)
    assert ImportedKey(key=name, value="75", to="x", fate="taken").value == "75"


@pytest.mark.parametrize(
    "text",
    [f"{LONG.replace('hf_', 'hf_x1y2z')}", "https://civitai.com/api/download/1?type=Model&token=x1y2z",
     "https://u:x1y2z@host/m", "https://x1y2z@host/m", "//u:x1y2z@host/m", "https://h/m?X-Amz-Signature=x1y2z", "https://h/?api_key=x1y2z",
     "--num_processes 1 --token x1y2z", "--wandb_api_key=x1y2z", "--mykey 'x1y2z a'", "foo HF_TOKEN=x1y2z --seed 1",
     "[api_key=x1y2z]", '{"conv_dim": 4, "wandb_api_key": "x1y2z"}', "{'a': 1, 'api_key': 'x1y2z'}",
     '{"hf_token":"x1y2z', r'{"args": "{\"hf_token\": \"x1y2z\"}"}', '{"api_key" : x1y2z}',
     "Authorization: x1y2z", "-H 'authorization: Token x1y2z a'", "X-Api-Key: x1y2z", "Cookie: a=x1y2z; b=x1y2z",
     '{"headers": {"Authorization": "x1y2z a"}}', '["--hf_token", "x1y2z"]', "[--hf_token,x1y2z]",
     "hf_token = 'x1y2z a'",
     "x;HF_TOKEN=x1y2z", "$env:HF_TOKEN = 'x1y2z'", "hf_token: x1y2z", "password=a='x1y2z b'",
     '[ "$HF_TOKEN" = "x1y2z" ]', '[[ "${HF_TOKEN}" != x1y2z ]]', 'if "%HF_TOKEN%"=="x1y2z" (',
     "if !HF_TOKEN! == x1y2z (",
     "($env:HF_TOKEN -eq 'x1y2z')", "api_key = x1y2z",
     "wandb login --relogin x1y2z",
     "wandb.login(key='x1y2z')", "login('x1y2z')", "curl -s -u me:x1y2z https://h", "sshpass -p x1y2z ssh h",
     "sk-proj-x1y2zABCdef0123456789", "glpat-x1y2zABCdef0123456789", "Basic x1y2zabcd==",
     "eyJhbGciOiJIUzI1NiJ9.eyJx1y2ziOjF9.x1y2z",
     '[ "$TOKEN" = "abcd1234x1y2zvalue" ]', "https://discord.com/api/webhooks/1234/x1y2z-a_b",
     "https://hooks.slack.com/services/T0/B0/x1y2z", "ngrok config add-authtoken x1y2z", "DB_PASS=x1y2z",
     "./start --pass x1y2z",
     "Bearer x1y2zabcdefghijklmnop", "Bearer x1y2zab", "ghp_x1y2zabcdefghijklmnopqrstuvwxyz012345"],
)  # fmt: skip
def test_secrets_by_their_form(text: str) -> None:
    assert "x1y2z" not in hide_secrets(text)
    line = ImportedKey(key="a", value=text, fate="unknown", why=msg("no {what}", what=text))
    assert "x1y2z" not in line.model_dump_json()
    assert "x1y2z" not in str(hide_all_secrets({"a": [text, {"b": text}, "--api_key", "x1y2z"], "api_key": "x1y2z"}))


@pytest.mark.parametrize(
    "text",
    ["/data/hf_models/sdxl", "hf_character_v1", "HF_dataset_pets/10_a girl", "a girl --n bad --w 512 --l 7",
     "keep_tokens=2 --max_token_length 225", "/data/key=1/images", "a, b; token=sks", "C:\\a\\b@2x.png",
     "Sword Bearer of light", "//server/share/a@2x", "a key, holding key",
     '{"key": "a", "token": "sks", "class_tokens": "b"}',
     "https://huggingface.co/a/b", "--class_tokens x", "Mickey: a mouse", "a cookie: sweet, round",
     "basic dress, bearer of",
     "sk-my-own-character-2024-v2", "rk-lum_by_someone_2", "wandb login", "wandb login && a", "login page, a token",
     "Authorization", "curl -s https://h/a:b", "--keep_tokens 2 --seed 1", "key: a, token: b", '"%HF_TOKEN%"==""',
     '[ -n "$HF_TOKEN" ]',
     '["--keep_tokens", "2"]', "secretary: red dress", "lora_key=5", 'file_key="model.safetensors"',
     "text_encoder_token: 75", "Bearer standardofthenationxx", "basic training==", "pk-2girls20240101characterlora",
     "rk_AnimeStyle2024Version1", "models/sk-anime2024abcdefghijk.safetensors", "sk-a1b2c3D4e5f6g7h8i9j0k.ckpt",
     "sk-a1b2c3D4e5f6g7h8i9j0k/img", '[ "$TOKEN" = "sks" ]', "xoxo-anime2024abcdefghijk", "ASIANGIRLSTYLE of 2024"],
)  # fmt: skip
def test_ordinary_text_stays(text: str) -> None:
    assert hide_secrets(text) == text


@pytest.mark.parametrize(
    "text",
    [LONG, f"made with {LONG}, by me", f"/x/{LONG}.toml", "https://u:x1y2z@host/m", "https://h/a?type=Model&token=x1y2z",
     "ghp_x1y2zabcdefghijklmnopqrstuvwxyz012345", "AKIAX1Y2Z0123456789A", "eyJhbGciOiJIUzI1NiJ9.eyJx1y2ziOjF9.x1y2z",
     "Authorization: Bearer x1y2zABCdef0123456789", "https://discord.com/api/webhooks/1/x1y2z",
     "https://hooks.slack.com/services/T0/B0/x1y2z"],
)  # fmt: skip
def test_a_copy_is_without_or_the_same(text: str) -> None:
    assert copy_without_secrets(text) is None
    value = {"api_key": "a", "a": ["b", text, "hf_token=c"], "d": {"e": text}, "f": "sk-proj-x1A2b3C4d5E6f7G8h9"}
    assert copy_without_secrets(value) == {"a": ["b"], "f": value["f"]}
    assert copy_without_secrets([text]) is None
    assert copy_without_secrets(("", 0, False)) == ("", 0, False)
