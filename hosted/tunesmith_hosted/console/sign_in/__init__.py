"""People sign in to the console by OpenID Connect: the authorization code with PKCE, and sessions in the database."""
