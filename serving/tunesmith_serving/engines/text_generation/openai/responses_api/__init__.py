"""OpenAI's Responses API: `POST /v1/responses`, answered as a chat whose request and answer have another form."""
